"""``python -m negserve.cli``."""

from negserve.cli import main

main()
