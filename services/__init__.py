"""The services: composition roots, one directory each. Nothing imports them."""
