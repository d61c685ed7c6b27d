"""What a clone by the gateway takes, beside a direct one."""

import sys
from pathlib import Path

# The kits that tests import by their bare names; pytest has them on its path from pyproject.toml.
_SUPPORT = Path(__file__).parents[2] / "support"
sys.path[:0] = [str(_SUPPORT / room) for room in ("agent", "repositories") if str(_SUPPORT / room) not in sys.path]
