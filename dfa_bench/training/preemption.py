"""Signals that end a run before its time: SLURM's SIGUSR1 or SIGTERM, a machine that is taken back, Ctrl-C.

They raise `Preempted` wherever the process is, except in the middle of a training step or a write: there they wait.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dfa_bench.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """Whether this process has been asked to end, and whether it may end here."""

    def __init__(self) -> None:
        self.asked: int | None = None  # the signal that waits
        self._held = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals; only the main thread may, elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}
        self.asked = None
        try:
            yield
        finally:
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
            raise Preempted(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        impatient = number == signal.SIGINT and self.asked == number
        self.asked = number
        if not self._held or impatient:
            self.raise_if_asked()


stop = StopSignals()  # of this process, as its signal handlers are
