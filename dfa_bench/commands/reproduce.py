"""`dfa-bench reproduce`: do the missing runs of tables, then write the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import COUNT, listed, table_command
from dfa_bench.settings.engines import engine_names

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


@table_command(
    seeds=1,
    examples="""
    dfa-bench reproduce table3 table4 --seeds 10
    dfa-bench reproduce table3 --skip '*/DNAConv' --dry-run
    dfa-bench reproduce table3 table4 --until-decided 2 --dry-run
    dfa-bench reproduce all scale=smoke
    dfa-bench reproduce all scale=paper --engine slurm engine.partition=gpu engine.gpus=1 engine.minutes=720
    """,
)
@click.option(
    "--engine",
    type=click.Choice(engine_names()),
    default="local",
    show_default=True,
    help="Where runs go: processes of this machine, job arrays of SLURM, or tasks of a Ray cluster. The settings are "
    "those of configs/engine/: engine.KEY=VALUE.",
)
@click.option("--jobs", type=COUNT, help="Runs at a time (default: one per GPU, without GPUs one per core).")
@click.option(
    "--retry",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    metavar="N",
    help="Start a run whose process was killed again, up to N times.",
)
@click.option("--max-failures", type=COUNT, metavar="N", help="Stop when N runs have failed (default: never).")
@click.option(
    "--skip",
    metavar="PATTERN,...",
    default="",
    callback=listed,
    help="Cells that get no new runs, as ROW/COLUMN: 'PubMed/*', PubMed/DNAConv.",
)
@click.option(
    "--until-decided",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HOURS",
    help="Instead of --seeds: add the seeds that decide most claims for their time, up to HOURS of runs.",
)
@click.option("--dry-run", is_flag=True, help="List the missing runs and their expected cost without running them.")
def command(request: Request) -> int:
    """Do the missing runs of tables, the longest first; then write DIR/TABLE.{md,csv,tex}.

    Runs that stand in the run store or in DIR/runs.csv count as done: repeat the command to continue after an
    interruption, or with more seeds to add those. Cells whose data are neither here nor downloadable are left out and
    named; a table without any data uses synthetic ones, shown separately. With scale=smoke all tables do, which takes
    seconds and proves that everything runs.

    With --until-decided, seeds go to claims that are undecided or not tested. Each step adds as many as would probably
    decide one (see `dfa-bench claims`), the most claims per hour first, then single places of claims that stay open. It
    ends when nothing is in reach, or the runs have taken HOURS, added up over processes. With --dry-run it prints the
    order, the expected cost and what stays open.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them: studies, search (of
              hyperparameters), first (short first looks)
    OVERRIDE  a Hydra override for all runs: scale=cpu|gpu|paper|smoke, store.root=DIR, data.root=DIR, ...;
              or a setting of the engine: engine.partition=gpu
    """
    from dfa_bench.reporting.reproduction import list_missing, reproduce
    from dfa_bench.reporting.until_decided import decide, list_steps

    if request.until_decided is not None:
        return list_steps(request) if request.dry_run else decide(request)
    return list_missing(request) if request.dry_run else reproduce(request)
