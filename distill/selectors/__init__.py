"""Selectors: what finds the passages that the teacher scores. `distill.select` is the stage that runs them."""
