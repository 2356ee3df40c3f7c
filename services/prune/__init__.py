"""The job that deletes old dated indices."""
