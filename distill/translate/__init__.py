"""The translate stage: passages in every target language."""
