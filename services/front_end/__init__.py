"""The front end: HTTP in, the best score out."""
