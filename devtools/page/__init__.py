"""The development page at /_dev/: the last requests, what each did, and why it was slow."""

from devtools.page.application import create_with_page

__all__ = ["create_with_page"]
