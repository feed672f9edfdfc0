"""Policies and mail as files."""
