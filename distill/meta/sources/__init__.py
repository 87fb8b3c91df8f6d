"""The sources stage of meta-learning."""
