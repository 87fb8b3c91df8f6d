"""What a user submits: one executable per method and per stage."""
