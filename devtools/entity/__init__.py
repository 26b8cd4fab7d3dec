"""Makes an entity of a team's own from `devtools/examples`: `make entity NAME=board`."""

from devtools.entity.make import make_entity
from devtools.entity.names import EntityError

__all__ = ["EntityError", "make_entity"]
