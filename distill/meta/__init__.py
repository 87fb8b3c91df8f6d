"""Meta-learning over languages: MAML, MAML-Align and their baselines (arXiv 2309.08185)."""
