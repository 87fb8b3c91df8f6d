"""The index stage: the encoded collection, and search in it."""
