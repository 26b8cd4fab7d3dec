"""The command line of production, `python -m app`, with the examples and the faults of code beside the entities.

Keys are old in seconds where production has minutes, as in the rules of `make drill`.
"""

from app import main
from app.__main__ import cli
from app.auth import key_set
from devtools.drill.faults import router as faults
from devtools.examples.routes import router as examples

if __name__ == "__main__":
    key_set.FRESH_S, key_set.STALE_S = key_set.FRESH_S // 60, key_set.STALE_S // 60
    main.ENTITIES = (faults, examples, *main.ENTITIES)
    cli()
