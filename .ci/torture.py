"""Kill runs, sweeps, preprocessing and result writing at random moments, and spoil what they leave.

Everything must end as if nothing had been: the same metrics to the last bit, the same files, nothing left over.
Processes are forked from this one, which has imported PyTorch, so that a kill costs what a run had done and not its
imports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch_geometric.utils  # noqa: F401  imported once, for all processes

import dfa_bench.training.execute  # noqa: F401
from dfa_bench.commands.main import main as command_line

SEED = 0
MARK = "DFA_BENCH_TORTURE"  # environment variable of all processes that it starts
SMALL = ["scale=smoke", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.checkpoint_seconds=0.05"]
# Of every task; epochs of the last three are much longer than the time between two kills.
RUNS = {
    "nodes": ["model=gat", "rule=dfa", "trainer.max_epochs=300"],
    "links": ["task=links", "rule=dfa", "trainer.max_epochs=300"],
    "clicks": ["task=clicks", "model=deepfm", "rule=dfa", "task.batch=16", "trainer.max_epochs=2"],
    "language": ["task=language", "model.dropout=0.1", "rule=dfa", "trainer.max_epochs=2", "trainer.max_tokens=25600"],
    "view_synthesis": ["task=view_synthesis", "rule=dfa", "task.steps_per_epoch=150", "trainer.max_epochs=2"],
}
LONGEST = 1.5  # seconds before a kill, at first; more after kills without progress


class Torture:
    def __init__(self, folder: Path, random_seed: int) -> None:
        self.folder, self.random = folder, random.Random(random_seed)
        self.log = folder / "log.txt"
        self.kills: dict[str, int] = {}  # SIGKILLs, by what was killed
        self.asked = 0  # SIGTERMs

    def start(self, *arguments: str) -> int:
        """dfa-bench in a process of its own, and a group of its own."""
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        try:
            os.setsid()
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            print("$", *arguments, flush=True)
            command_line(arguments)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        finally:
            os._exit(99)

    def run(self, *arguments: str) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.start(*arguments), 0)[1])

    def killed_until_done(
        self, what: str, arguments: Sequence[str], longest: float = LONGEST, limit: int = 10**9
    ) -> None:
        """Repeat a command, killed after a random time, until it comes to its end; undisturbed after `limit` kills."""
        self.kills.setdefault(what, 0)
        for attempt in range(10**6):
            process = self.start(*arguments)
            deadline = time.monotonic() + self.random.uniform(0, longest * 1.05**attempt)
            status = None
            while status is None and (attempt >= limit or time.monotonic() < deadline):
                ended, code = os.waitpid(process, os.WNOHANG)
                status = os.waitstatus_to_exitcode(code) if ended else None
                time.sleep(0.005)
            if status is None:
                sent = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, sent)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                assert status in (-signal.SIGKILL, -signal.SIGTERM, 75, 0), f"{what}: status {status}; see {self.log}"
                self.kills[what] += sent == signal.SIGKILL
                self.asked += sent == signal.SIGTERM
            if status == 0:
                return
            assert status != 1, f"{what} failed; see {self.log}"

    def runs(self, names: Sequence[str] = (*RUNS,), limit: int = 10**9) -> None:
        for name in names:
            overrides = RUNS[name]
            arguments = ["run", *SMALL, *overrides]
            whole, cut = self.folder / "whole", self.folder / "cut"
            assert self.run(*arguments, f"store.root={whole}") == 0
            self.killed_until_done(f"run {name}", [*arguments, f"store.root={cut}"], limit=limit)
        self.compare(whole, cut)
        shutil.rmtree(cut)

    def compare(self, whole: Path, cut: Path) -> None:
        """Two stores hold the same runs, with the same numbers and the same files."""
        assert listing(whole) == listing(cut), f"{set(listing(whole)) ^ set(listing(cut))}"
        for result in whole.glob("*/result.json"):
            assert numbers(result.parent) == numbers(cut / result.parent.name), result.parent.name

    def preprocessing(self) -> None:
        """Tokenisation and the compact form of clicks, of real data where there are some, else of the stand-ins."""
        real = [] if "DFA_BENCH_DATA" in os.environ else ["data.stand_in=true"]
        for name, overrides in {
            "language": [
                "task=language",
                "scale=smoke",
                "data.stand_in=false",
                "data.download=false",
                "task.vocabulary=500",
            ],
            "clicks": ["task=clicks", "model=fm", "rule=bp", "scale=smoke", "data.stand_in=false"],
        }.items():
            overrides = [*overrides, *real, "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.threads=1"]
            places = [
                (f"store.root={self.folder}/{each}-{name}", f"data.cache={self.folder}/cache-{each}-{name}")
                for each in ("whole", "cut")
            ]
            assert self.run("run", *overrides, *places[0]) == 0
            self.killed_until_done(f"preprocess {name}", ["run", *overrides, *places[1]], longest=4.0, limit=15)
            self.compare(self.folder / f"whole-{name}", self.folder / f"cut-{name}")
            assert listing(self.folder / f"cache-whole-{name}") == listing(self.folder / f"cache-cut-{name}")

    def results(self, times: int) -> None:
        """Tables written again and again from the committed rows."""
        rows = Path(__file__).parents[1] / "results" / "runs.csv"
        for each in ("whole", "cut"):
            (self.folder / f"results-{each}").mkdir()
            shutil.copy(rows, self.folder / f"results-{each}")
        arguments = ["results", "3", "4", f"store.root={self.folder}/none", "--results"]
        assert self.run(*arguments, str(self.folder / "results-whole")) == 0
        for _ in range(times):
            self.killed_until_done("results", [*arguments, str(self.folder / "results-cut")], longest=0.7, limit=8)
        assert listing(self.folder / "results-whole") == listing(self.folder / "results-cut")
        for path in (self.folder / "results-whole").iterdir():
            if path.suffix != ".lock":
                assert path.read_bytes() == (self.folder / "results-cut" / path.name).read_bytes(), path.name

    def many(self, times: int) -> None:
        """`reproduce`, and `-m` with joblib: their parents are killed, and their workers with them."""
        table = ["table4", *SMALL, "trainer.max_epochs=200", "--skip", "CiteSeer/*,PubMed/*", "--jobs", "2"]
        table += ["--results", f"{self.folder}/reproduced"]
        sweep = ["-m", *SMALL, "task=links", "trainer.max_epochs=200", "rule=bp,dfa,shallow"]
        sweep += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        for name, arguments in {"reproduce": ["reproduce", *table], "run -m": ["run", *sweep]}.items():
            whole, cut = self.folder / f"whole-{name}", self.folder / f"cut-{name}"
            assert self.run(*arguments, f"store.root={whole}") == 0
            self.killed_until_done(name, [*arguments, f"store.root={cut}"], longest=8.0, limit=times)
            shutil.rmtree(whole / ".sweeps", ignore_errors=True)  # their folders are named after the time
            shutil.rmtree(cut / ".sweeps", ignore_errors=True)
            self.compare(whole, cut)
        # Those that do a run end within seconds; joblib ends those that had none, after five minutes.
        wait_for(lambda: not workers(self.folder), "workers ended with their parents", 400)

    def two_at_once(self) -> None:
        """Two `reproduce` on one store and one results folder do each run once."""
        where = [f"store.root={self.folder}/shared", "--results", f"{self.folder}/shared-results"]
        arguments = ["reproduce", "table4", *SMALL, "--skip", "CiteSeer/*,PubMed/*", "--jobs", "1", *where]
        both = [self.start(*arguments) for _ in range(2)]
        assert [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in both] == [0, 0]
        lines = [
            json.loads(line)["epoch"]
            for path in (self.folder / "shared").glob("*/metrics.jsonl")
            for line in path.open()
        ]
        assert lines
        assert len(lines) == 3 * max(lines), "an epoch was done twice"

    def full_disk(self) -> None:
        with mounted(self.folder / "small", "size=300k") as small:
            arguments = ["run", *SMALL, *RUNS["language"], f"store.root={small}"]
            assert self.run(*arguments) == 1
            assert not [path for path in small.rglob(".*.????????") if path.is_file()], "no half-written file stays"
            subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
            assert self.run(*arguments) == 0

    def read_only(self) -> None:
        with mounted(self.folder / "read-only", "size=64m") as place:
            arguments = ["run", *SMALL, *RUNS["nodes"], f"store.root={place}"]
            assert self.run(*arguments) == 0
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            assert self.run("runs", f"store.root={place}") == 0
            assert self.run("watch", "table3", f"store.root={place}", "--once", "scale=smoke") == 0
            assert self.run("run", *SMALL, *RUNS["links"], f"store.root={place}") == 1

    def deleted_store(self) -> None:
        store = self.folder / "deleted"
        process = self.start("run", *SMALL, *RUNS["view_synthesis"], f"store.root={store}")
        wait_for(lambda: any(store.glob("*/checkpoint.pt")), "a checkpoint")
        shutil.rmtree(store)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) in (0, 1), "no crash"

    def flipped_bytes(self, times: int) -> None:
        """A changed byte anywhere in a record, checkpoint or cache is found, or changes nothing."""
        name = next((self.folder / "whole").glob("language-*")).name
        truth = numbers(self.folder / "whole" / name)
        for _ in range(times):
            store = self.folder / "flipped"
            shutil.rmtree(store, ignore_errors=True)
            arguments = ["run", *SMALL, *RUNS["language"], f"store.root={store}"]
            process = self.start(*arguments)
            wait_for(lambda store=store: any(store.glob("*/checkpoint.previous.pt")), "two checkpoints")
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            if (store / name / "checkpoint.pt").exists():  # it was not killed between two checkpoints
                self.flip(store / name / "checkpoint.pt")
            assert self.run(*arguments) == 0
            assert numbers(store / name) == truth
            self.flip(store / name / "result.json")
            status = self.run(*arguments)
            assert status == 1 or numbers(store / name) == truth

    def flip(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        path.write_bytes(content)

    def skewed_clocks(self) -> None:
        """Files from the future and the past do not change what is done, or that it is done."""
        for days in (-1000, 1000):
            for path in (self.folder / "whole").rglob("*"):
                os.utime(path, (time.time() + days * 86400,) * 2)
            for overrides in RUNS.values():
                assert self.run("run", *SMALL, *overrides, f"store.root={self.folder}/whole") == 0
        assert "Done before" in self.log.read_text()


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def numbers(folder: Path) -> tuple[object, ...]:
    """Metrics, steps and the curve of a record."""
    result = json.loads((folder / "result.json").read_text())
    curve = [{**json.loads(line), "seconds": 0} for line in (folder / "metrics.jsonl").open()]
    return result["metrics"], result["steps"], result["epochs"], curve


def workers(folder: Path) -> list[str]:
    """Processes that were started by those that this one has forked: their environment has our mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if f"{MARK}={folder}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(place.name)
    return found


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to work; must not exist")
    parser.add_argument("--kills", type=int, default=300, help="at least so many SIGKILLs (default: %(default)s)")
    parser.add_argument("--many", action="store_true", help="only `reproduce` and -m, with their workers")
    parser.add_argument("--quick", action="store_true", help="one run, a few kills: for the tests")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    os.environ[MARK] = str(folder)
    torture = Torture(folder, SEED)
    started = time.monotonic()

    def told(what: str, part: Callable[[], None]) -> None:
        part()
        print(f"{time.monotonic() - started:6.0f} s  {what}; kills: {sum(torture.kills.values())}", flush=True)

    if options.many:
        told("many", lambda: torture.many(15))
        print(f"SIGKILLs: {torture.kills}; SIGTERMs: {torture.asked}.")
        return
    if options.quick:
        told("a run", lambda: torture.runs(["language"], limit=5))
        shutil.rmtree(folder)
        return
    told("runs", torture.runs)
    told("flipped bytes", lambda: torture.flipped_bytes(5))
    told("skewed clocks", torture.skewed_clocks)
    told("a store that is deleted", torture.deleted_store)
    told("results", lambda: torture.results(5))
    if os.getuid() == 0:
        told("a full disk", torture.full_disk)
        told("a read-only store", torture.read_only)
    else:
        print("Not root: no full disk, no read-only store.")
    told("two at once", torture.two_at_once)
    told("preprocessing", torture.preprocessing)
    told("many", lambda: torture.many(15))
    while sum(torture.kills.values()) < options.kills:
        shutil.rmtree(folder / "whole")
        told("runs again", torture.runs)
    print(f"SIGKILLs: {sum(torture.kills.values())}, {torture.kills}; SIGTERMs: {torture.asked}.")
    print("No run was lost or changed.")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
