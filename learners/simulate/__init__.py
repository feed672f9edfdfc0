"""Learning in a simulator: environments, how training goes on there, and what it goes by."""
