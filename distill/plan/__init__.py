"""How much work a stage is before it runs."""
