"""Students: encoders of queries and passages, and their checkpoints."""
