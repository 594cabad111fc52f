"""``python -m sipws``."""

import sys

from sipws.cli.main import main

sys.exit(main())
