"""A user's own data onto the log."""
