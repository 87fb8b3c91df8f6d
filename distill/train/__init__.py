"""The train stage: the student, trained on the examples."""
