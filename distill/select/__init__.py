"""The select stage: the passages that the teacher scores for each query."""
