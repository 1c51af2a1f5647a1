"""``cloche daemon``: the one command that is not a client of the API but the API's own process."""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """Run the daemon in the foreground until it is told to end."""
    from cloche.api.daemon import main as serve

    return serve(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
