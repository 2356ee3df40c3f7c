"""Train models on the data sets that come along, and write them as bundles."""
