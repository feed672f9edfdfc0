"""Language models that speak OpenAI's protocol."""
