"""Signals that end a run before its time: SLURM's SIGUSR1 or SIGTERM, a machine that is taken back, Ctrl-C.

They raise `Preempted` wherever the process is, except in the middle of a training step or a write: there they wait.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dfa_bench.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)  # SIGUSR2: submitit's
GRACE = 60.0  # seconds that runs have to write their checkpoints when the command that started them ends before them


class StopSignals:
    """Whether this process has been asked to end, and whether it may end here."""

    def __init__(self) -> None:
        self.asked: int | None = None  # the signal that waits
        self.raised: int | None = None  # the one that was raised: libraries may have made another error of it
        self.catching = 0  # how many `caught` are open
        self._held = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals; only the main thread may, elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}
        self.asked = None
        if not self.catching:
            self.raised = None
        self.catching += 1
        try:
            yield
        finally:
            self.catching -= 1
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait; who holds them looks at `asked`. A second Ctrl-C does not wait."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within `held`: a part that may end anywhere."""
        held, self._held = self._held, 0
        try:
            self.raise_if_asked()
            yield
        finally:
            self._held = held

    def raise_if_asked(self) -> None:
        if self.asked is not None:
            number, self.asked = self.asked, None
            self.raised = number
            raise Preempted(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        impatient = number == signal.SIGINT and self.asked == number
        self.asked = number
        if not self._held or impatient:
            self.raise_if_asked()


stop = StopSignals()  # of this process, as its signal handlers are


LAUNCHED_BY = "DFA_BENCH_LAUNCHED_BY"  # environment variable: host and process of the command that starts workers


def launches_workers() -> None:
    """Let processes that a library starts for this one know whose they are: see `end_with_launcher`."""
    os.environ[LAUNCHED_BY] = f"{platform.node()} {os.getpid()}"


def end_with_launcher() -> None:
    """`end_with` the command that started this process, if that is of this machine. It may be gone already."""
    host, _, process = os.environ.get(LAUNCHED_BY, "").partition(" ")
    if host == platform.node() and process.isdigit():
        end_with(int(process))


def end_with(other: int) -> None:
    """End this process soon after another one, with a checkpoint: it would hold its record for nobody.

    Args:
        other: the parent, also if it has ended; or an ancestor.
    """
    is_parent = os.getppid() == other

    def watch() -> None:
        while os.getppid() == other if is_parent else _lives(other):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while stop.catching and time.monotonic() < deadline:
            time.sleep(0.1)
        os._exit(75)  # nobody is there to be told more

    threading.Thread(target=watch, daemon=True).start()


def _lives(process: int) -> bool:
    """Whether a process is there, and not only its exit status, which nobody has asked for yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):  # only Linux has it
        return not Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].lstrip().startswith("Z")
    return True
