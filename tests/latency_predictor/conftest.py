"""Put the predictor's tools on the path, of which tests use ``reference_search``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'predictor'))
