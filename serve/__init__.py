"""The index and the search endpoint."""
