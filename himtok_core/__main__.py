"""`python -m himtok_core <command>`; the commands are in `cli`."""

import sys

from .cli import main

sys.exit(main())
