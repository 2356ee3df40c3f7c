"""The connector to archive files."""
