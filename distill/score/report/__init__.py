"""The teacher report: figures of a teacher's scores, and what in them stops a job."""
