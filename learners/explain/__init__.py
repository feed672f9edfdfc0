"""Explanations as computed facts: arrays and window summaries in, `Facts` and plots' series out. Pure."""
