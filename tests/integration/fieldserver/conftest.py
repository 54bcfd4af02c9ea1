"""Lets the field server's tests import ``fs_helpers`` and ``fs_processes``."""

import sys
from pathlib import Path

_HELPERS = str(Path(__file__).parents[2] / "unit" / "fieldserver")
if _HELPERS not in sys.path:
    sys.path.insert(0, _HELPERS)
