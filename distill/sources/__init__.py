"""The sources stage: queries, passages and judgements."""
