"""The benchmark: our service beside a bare one and the bare bus, in one run."""
