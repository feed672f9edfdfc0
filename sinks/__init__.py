"""Adapters to the outside: logs, indexes, caches, stores and mail."""
