"""Tuning a small language model to write one sentence on one fact."""
