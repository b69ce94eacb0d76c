"""`python -m glassgpt`: the same command line, where the console script is not on the path."""

import sys

from glassgpt.cli.main import main

sys.exit(main())
