"""fleet: simulated agents that act with the newest promoted policy."""
