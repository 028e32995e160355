"""How long commands that only read take with more and more runs: rows of runs.csv, and records in the store.

    python benchmarks/growth.py [--runs 1000,10000,50000]

The runs are those of results/runs.csv, copied under made-up identities until there are enough; each stands in both
places. Shown is processor time, with filled caches. `reproduce` has nothing to do.
"""

import argparse
import dataclasses
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dfa_bench.data.writing import sealed
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import RECORD_VERSION
from dfa_bench.runs.summary import RunSummary

COMMITTED = Path(__file__).parents[1] / "results" / "runs.csv"
COMMANDS = {  # name: arguments
    "table 3": ["table", "3"],
    "claims": ["claims"],
    "runs": ["runs"],
    "reproduce, done": ["reproduce", "table4", "--seeds", "1"],
}


def made_up(number: int) -> list[RunSummary]:
    """So many runs: the committed ones, then copies of them as another task, which no table asks for."""
    real = [*Ledger(COMMITTED).runs.values()]
    copies = []
    for each in range(number - len(real)):
        run = real[each % len(real)]
        identity = hashlib.sha256(f"{each}".encode()).hexdigest()[:16]
        copies.append(dataclasses.replace(run, identity=identity, dataset="copied", task="copied"))
    return [*real, *copies][:number]


def write(runs: Sequence[RunSummary], folder: Path) -> None:
    """As rows and as records, without waiting for the disk."""
    os.fsync = lambda descriptor: None
    Ledger(folder / "results" / "runs.csv").add(runs)
    for run in runs:
        record = folder / "runs" / f"{run.task}-{run.dataset}-{run.model}-{run.rule}-s{run.seed}-{run.identity}".lower()
        record.mkdir(parents=True)
        (record / "config.yaml").write_text("seed: 0\n")
        (record / "result.json").write_text(sealed({"record_version": RECORD_VERSION, "files": {}, **run.to_record()}))


def seconds(arguments: Sequence[str], folder: Path) -> float:
    """Of processor time, so that other jobs of the machine do not count."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    command = [sys.executable, "-m", "dfa_bench", *arguments, "--results", "results"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or ("reproduce" in command and " 0 of them to do" not in done.stdout):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1000,10000,50000")
    numbers = [int(each) for each in parser.parse_args().runs.split(",")]
    print(f"{'rows and records':18}" + "".join(f"{name:>18}" for name in COMMANDS), flush=True)
    with tempfile.TemporaryDirectory() as place:
        for number in numbers:
            folder = Path(place) / str(number)
            write(made_up(number), folder)
            for arguments in COMMANDS.values() if number == numbers[0] else ():
                seconds(arguments, folder)  # fills the caches
            times = [seconds(arguments, folder) for arguments in COMMANDS.values()]
            print(f"{number:<18,}" + "".join(f"{each:16.2f} s" for each in times), flush=True)


if __name__ == "__main__":
    main()
