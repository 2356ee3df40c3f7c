"""A worker that serves one model."""
