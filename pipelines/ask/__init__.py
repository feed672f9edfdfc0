"""Questions in plain English: what is asked for, by rules and names alone, and the look-ups that answer it."""
