"""The mix stage: n-way training examples from scores and translations."""
