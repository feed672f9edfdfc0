"""Tuning the model that narrates: its data set, the training, and how good it is."""
