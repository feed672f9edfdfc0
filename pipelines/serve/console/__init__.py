"""The console: one page that an operator keeps open, rendered by the server."""
