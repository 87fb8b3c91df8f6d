"""The base of configurations: loading, merging, describing, and settings of no stage. Nothing here imports torch or ray."""
