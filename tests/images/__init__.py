"""Images built here, in place of official ones where those cannot be pulled."""
