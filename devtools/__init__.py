"""What only development needs: a database of its own, traffic, checks of the stack, and the set-up of `.venv`."""
