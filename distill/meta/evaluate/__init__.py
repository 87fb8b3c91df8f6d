"""The evaluate and compare stages of meta-learning."""
