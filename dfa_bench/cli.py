"""The command line: `dfa-bench run | reproduce | table | claims | figure | data`."""

from __future__ import annotations

import os
import re
import sys

USAGE = """\
dfa-bench: train modern networks with Direct Feedback Alignment or backpropagation, and reproduce Launay et al. 2020.

  dfa-bench run task=nodes model=gcn dataset=cora rule=dfa    one run; with -m a sweep (dfa-bench run --help)
  dfa-bench reproduce table3 seeds=10                         run what a table lacks, then write it to results/
  dfa-bench table 3                                           show a table from the runs that exist
  dfa-bench claims                                            what the paper concludes, checked over the runs that exist
  dfa-bench figure 2                                          draw a figure; trains what it needs
  dfa-bench data                                              which data sets are here, and where to get the others

Each command has a --help of its own.
"""


REPRODUCE = """\
dfa-bench reproduce TABLE... [seeds=N] [jobs=N] [results=DIR] [OVERRIDE...]

Runs what the tables lack, the longest first, on all cores; then writes results/TABLE.{md,csv,tex} and adds the runs to
results/runs.csv. Runs that stand there or in the run store count as done, so the same command goes on where it stopped,
and a larger `seeds` adds seeds.

  TABLE      table3, table4, ..., all of them as `all`; studies of our own: studies/dna_feedback, ...,
             all of them as `studies`
  seeds=N    seeds 0 to N-1 of each cell (default 1)
  jobs=N     runs at a time (default: the number of cores)
  results=DIR  where tables go (default results)
  skip=PATTERN,...  cells that get no new runs, by row and column: skip=PubMed/DNAConv or skip='*/DNAConv'
  OVERRIDE   of every run, as with `dfa-bench run`: scale=cpu|paper|smoke, store.root=DIR, data.root=DIR, ...

Examples:
  dfa-bench reproduce table3 table4 seeds=10
  dfa-bench reproduce all scale=smoke        on generated data, in seconds: proves that everything runs
"""

TABLE = """\
dfa-bench table TABLE... [seeds=N] [results=DIR] [OVERRIDE...]

Shows tables from the runs that exist, in the run store and in results/runs.csv; runs nothing. All seeds that are done,
or the first N.

Examples:
  dfa-bench table 3
  dfa-bench table all seeds=3
"""

CLAIMS = """\
dfa-bench claims [TABLE...] [seeds=N] [results=DIR] [OVERRIDE...]

Checks what the paper concludes from its tables over the runs that exist, in the run store and in results/runs.csv:
supported, not supported, undecided (the interval straddles what is claimed), or not tested (too few seeds).

Examples:
  dfa-bench claims
  dfa-bench claims table3 studies/regularisation
"""


FIGURE = """\
dfa-bench figure 2 [results=DIR] [OVERRIDE...]

Draws a figure of the paper as png and svg, with its numbers and runs in a json file; trains the runs that it needs if
they are not in the run store.

  2   t-SNE of the hidden layer of GraphConv on Cora, with BP, DFA and shallow training

Examples:
  dfa-bench figure 2
  dfa-bench figure 2 seed=3 results=/tmp/figures
"""

DATA = """\
dfa-bench data [get NAME...] [data.root=DIR]

Lists the data sets: which are here, and where the others come from. `get` downloads some into the cache.

Examples:
  dfa-bench data
  dfa-bench data get cora pubmed
"""


TABLE_HELP = {"reproduce": REPRODUCE, "table": TABLE, "claims": CLAIMS}


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] in (["-sc"], ["--shell-completion"]):  # the shell asks without the word `run`
        arguments = ["run", *arguments]
        _complete_behind_command()
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        sys.exit(0)
    if command == "run":
        from dfa_bench.sweeps import main as run  # each command imports what it needs: --help answers at once

        sys.exit(run(rest))
    if command in TABLE_HELP:
        if rest[:1] in (["-h"], ["--help"]) or (not rest and command != "claims"):
            print(TABLE_HELP[command], end="")
            sys.exit(0 if rest else 2)
        sys.exit(_tables(command, rest))
    if command == "data":
        if rest[:1] in (["-h"], ["--help"]):
            print(DATA, end="")
            sys.exit(0)
        from dfa_bench.data_command import main as data

        sys.exit(data(rest))
    if command == "figure":
        if not rest or rest[0] in ("-h", "--help"):
            print(FIGURE, end="")
            sys.exit(0 if rest else 2)
        sys.exit(_figure(rest))
    sys.exit(f"dfa-bench has no command '{command}'.\n\n{USAGE}")


def _complete_behind_command() -> None:
    """Give Hydra the line without the word `run`; if that is being typed, complete it here."""
    line = os.environ.get("COMP_LINE", "")
    if re.fullmatch(r"\s*\S+\s+\w*", line):
        print("run reproduce table claims figure data")
        sys.exit(0)
    os.environ["COMP_LINE"] = re.sub(r"^(\s*\S+)\s+run\b", r"\1", line)


def _figure(arguments: list[str]) -> int:
    from dfa_bench.errors import UserError
    from dfa_bench.figure_command import main as figure

    try:
        return figure(arguments)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2


def _tables(command: str, arguments: list[str]) -> int:
    from dfa_bench.errors import UserError
    from dfa_bench.reproduce import reproduce, show, show_claims
    from dfa_bench.request import parse_request

    default = ["all", "studies"] if command == "claims" else []
    try:
        request = parse_request(arguments, seeds=1 if command == "reproduce" else 0, default=default)
        return {"reproduce": reproduce, "table": show, "claims": show_claims}[command](request)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
