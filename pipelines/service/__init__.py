"""A job as a service: signs of life, metrics, an endpoint that tells of both, and an end in time."""
