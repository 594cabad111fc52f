"""``python -m sipws``."""

import sys

from sipws.cli import main

sys.exit(main())
