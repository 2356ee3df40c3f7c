"""A container engine: the one that is there, else a private one from Debian's packages."""
