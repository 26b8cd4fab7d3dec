"""Checks of the running compose stack."""
