"""How a job runs: command line, stages, plan, report."""
