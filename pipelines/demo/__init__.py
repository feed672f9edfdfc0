"""The whole stream in one process."""
