"""A small language model on this machine, run by llama.cpp and served by OpenAI's protocols."""
