"""What HTTP itself asks for, whatever the entity."""
