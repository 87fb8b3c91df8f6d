"""The tasks stage: support and query sets for meta-learning."""
