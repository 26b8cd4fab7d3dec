"""What is told about requests while they are served."""
