"""The REST API and the console: what people and programs touch."""
