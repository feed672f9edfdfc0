"""Questions to the index and the log."""
