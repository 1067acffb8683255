"""`python -m stillhouse` is the command `stillhouse`."""

from __future__ import annotations

import sys

from stillhouse.cli import main

sys.exit(main())
