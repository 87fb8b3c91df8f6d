"""Checks of stages before the first stage runs: what settings, models and data say about a failure that would come later.

Each function here is the `check` of a stage, or a part of one: it raises UserError. What depends on data returns quietly where the stage
that reads them is not finished.
"""
