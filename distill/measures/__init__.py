"""Retrieval measures and statistical tests."""
