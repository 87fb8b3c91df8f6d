"""Models: where they are, and what computing with them costs."""
