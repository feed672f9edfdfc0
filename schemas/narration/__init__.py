"""What a language model is told of facts, and how what it answers is read."""
