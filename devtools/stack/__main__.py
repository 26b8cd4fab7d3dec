"""`python -m devtools.stack --scale api=3`."""

import sys

from devtools.stack.start import main

main(sys.argv[1:])
