"""Numerical functions that stages share: MaxSim, top-k, batches by length. On torch and numpy alone."""
