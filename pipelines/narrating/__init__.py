"""A language model's sentences in reports: what is asked, what it may cost, and what is said where it fails."""
