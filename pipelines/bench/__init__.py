"""How fast the configured log, index and cache are. `headrace bench` and the benches in tests measure with this."""
