"""Starts the compose stack, or says in plain words why it cannot. `make stack` runs it with the system's Python.

Only the standard library: Docker and Python are all that it needs. What to check comes from the compose file itself.
"""
