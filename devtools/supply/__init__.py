"""What the project is made of: its packages by the lock files, their licenses, and the advisories that name them."""
