"""``python -m latency_predictor``."""

import sys

from .cli import main

sys.exit(main())
