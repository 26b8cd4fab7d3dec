"""What only development needs: an embedded PostgreSQL, and the set-up of `.venv`."""
