"""`python -m shortlist.cli` is the same as `shortlist`."""

import sys

from shortlist.cli import main

sys.exit(main())
