"""Learning from rows that arrive: training, trajectories, exploring and the table of algorithms."""
