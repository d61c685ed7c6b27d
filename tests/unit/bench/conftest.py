"""The benchmark is a package below the repository's root, which pytest doesn't put on the path by itself."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
