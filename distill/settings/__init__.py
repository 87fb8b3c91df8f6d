"""The groups of settings that a configuration is made of. Nothing here imports torch or ray."""
