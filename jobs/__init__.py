"""Scripts that a user runs or submits: one for each method, each stage, and what comes before and after a job."""
