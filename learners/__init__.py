"""Pure learning: no I/O, no clock, no global random state."""
