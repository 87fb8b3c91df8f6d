"""The score stage: a teacher's scores of the candidates."""
