"""The retrieve and evaluate stages: runs of every system, and what they are worth."""
