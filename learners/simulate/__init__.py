"""Learning in a simulator: worlds, how training goes on there, and what it goes by."""
