"""The stages that train an encoder on meta-tasks."""
