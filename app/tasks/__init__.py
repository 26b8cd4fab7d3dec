"""Tasks: an entity. A new entity is a copy of this folder."""
