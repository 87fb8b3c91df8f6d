"""The running of a job: command line, stages, plan, report."""
