"""Deep Q-learning: updates, replay and the state between them."""
