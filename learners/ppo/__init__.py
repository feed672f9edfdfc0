"""Proximal policy optimisation: updates, rollouts and the state between them."""
