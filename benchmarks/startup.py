"""Time until a command has answered, each a whole process, beside bare Python and `import torch`.

    python benchmarks/startup.py [--rounds 5]

In each round all take turns, so that the load of other jobs falls on all. "cold" is the first run of each, with an
empty cache (XDG_CACHE_HOME), which keeps plans of tables and checksums of data; "warm" is the median of the others.
`reproduce all` has nothing to do: results/runs.csv has every run of Tables 1 to 5 with one seed. It needs their data
(DFA_BENCH_DATA), since it would train on synthetic data instead; it writes its tables to a copy of results/.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
COMMANDS = {  # name: arguments, status, seconds that it may take
    "--help": (["--help"], 0, 0.3),
    "an unknown table": (["table", "9"], 2, 0.5),
    "table 3": (["table", "3"], 0, 1.5),
    "reproduce all": (["reproduce", "all", "--seeds", "1"], 0, 10.0),
}
PEERS = {"python -c pass": "pass", "python -c 'import torch'": "import torch"}


def seconds(command: Sequence[str], status: int, environment: Mapping[str, str], folder: Path) -> float:
    """Of a whole process, which must end as it should and have nothing to train."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=folder)
    taken = time.perf_counter() - begin
    if done.returncode != status or ("reproduce" in command and " 0 of them to do" not in done.stdout):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return taken


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each peer and command, by round; each has a cache of its own, empty at first."""
    shutil.copytree(RESULTS, folder / "results")
    turns = {name: (["-c", code], 0) for name, code in PEERS.items()}
    for name, (arguments, status, _) in COMMANDS.items():
        if "reproduce" not in arguments or os.environ.get("DFA_BENCH_DATA"):
            turns[name] = (["-m", "dfa_bench", *arguments], status)
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(1 + rounds):
        for name, (command, status) in turns.items():
            environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "caches" / name)}
            found[name].append(seconds(command, status, environment, folder))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(parser.parse_args().rounds, Path(folder))
    torch = statistics.median(found["python -c 'import torch'"][1:])
    print(f"{'':26} {'cold':>8} {'warm':>8} {'/ import torch':>15} {'expected':>9}")
    for name, (cold, *warm) in found.items():
        middle = statistics.median(warm)
        expected = f"{COMMANDS[name][2]:.1f} s" if name in COMMANDS else ""
        print(f"{name:26} {cold:6.2f} s {middle:6.2f} s {middle / torch:15.2f} {expected:>9}")
    if "reproduce all" not in found:
        print("reproduce all: not measured, as DFA_BENCH_DATA is not set")


if __name__ == "__main__":
    main()
