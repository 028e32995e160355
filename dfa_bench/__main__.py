"""The command line: `dfa-bench`, or `python -m dfa_bench` without its script."""

import sys

from dfa_bench.errors import MissingExtra


def main() -> None:
    try:
        from dfa_bench.commands.main import main as command
    except MissingExtra as error:  # only the learning rules are installed
        sys.exit(str(error))
    command()


if __name__ == "__main__":
    main()
