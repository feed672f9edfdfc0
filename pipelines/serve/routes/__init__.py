"""The API's routes, a file a subject; each file has a `router`."""
