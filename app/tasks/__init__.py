"""The tasks: an entity."""
