"""Runs `python -m assent.cli`, where the `assent` command is not on the path."""

import sys

from assent.cli.main import main

sys.exit(main())
