"""The log and the index on SQLite."""
