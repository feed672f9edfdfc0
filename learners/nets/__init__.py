"""Networks, their optimiser and the normaliser of what they see."""
