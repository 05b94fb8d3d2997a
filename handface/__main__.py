"""`handface` and `python -m handface`: the console script."""

from __future__ import annotations

import sys


def main() -> int:
    """Hand the command line to the dispatcher."""
    from handface.jobs.cli import main as dispatch

    return dispatch()


if __name__ == "__main__":
    sys.exit(main())
