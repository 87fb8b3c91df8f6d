"""File formats of texts, judgements, scores and training examples."""
