"""``python -m hep.cli``."""

import sys

from hep.cli.main import main

sys.exit(main())
