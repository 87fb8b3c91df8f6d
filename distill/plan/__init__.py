"""The work of a stage, estimated before it runs."""
