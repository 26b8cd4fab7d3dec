"""The command line of production, `python -m app`, with the examples beside the entities of the application."""

from app import main
from app.__main__ import cli
from devtools.examples.routes import router as examples

if __name__ == "__main__":
    main.ENTITIES = (examples, *main.ENTITIES)
    cli()
