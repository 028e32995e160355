"""Progress over many runs, seen in their records alone: whoever does them, and from whichever terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dfa_bench.errors import counted
from dfa_bench.experiments.expected_cost import expected_seconds, time_text
from dfa_bench.experiments.plan import PlannedRun, readable_result
from dfa_bench.runs.status import State, Status, status, store_time
from dfa_bench.runs.store import record_of

PLAIN_SECONDS = 15.0  # between lines of progress when there is no terminal
SHOWN = 20  # runs that are named at a time, at most


@dataclass(frozen=True)
class Look:
    """All runs at one moment."""

    states: Mapping[str, Status]  # by identity
    seconds_left: float  # of work, if done by as many as run now
    unknown: int  # runs of which no time is known to go by, and which that leaves out

    def __str__(self) -> str:
        counts = Counter(each.state for each in self.states.values())
        parts = [f"{counts['done']} of {counted(len(self.states), 'run')} done"]
        shown: tuple[State, ...] = ("running", "failed", "lost", "begun", "waiting")
        parts += [f"{counts[state]} {state}" for state in shown if counts[state]]
        if self.seconds_left:
            more = f" and {counted(self.unknown, 'run')} of unknown time" if self.unknown else ""
            parts.append(f"about {time_text(self.seconds_left)}{more} left")
        return ", ".join(parts)


@dataclass
class Watched:
    """Runs to look at, each once in however many tables.

    Args:
        tables: the planned runs of each, with the seeds whose time may be recorded.
        wanted: identities of those to look at.
        seconds: of runs that are recorded, by identity; the others count as not done yet.
        elsewhere: seconds of runs that are recorded in another folder: what to go by, where nothing else is known.
    """

    tables: Sequence[Sequence[PlannedRun]]
    wanted: set[str]
    seconds: dict[str, float]
    elsewhere: Mapping[str, float] = field(default_factory=dict)
    runs: dict[str, PlannedRun] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = {run.identity: run for table in self.tables for run in table if run.identity in self.wanted}

    def look(self) -> Look:
        now = store_time(Path(next(iter(self.runs.values())).settings.store.root)) if self.runs else time.time()
        states = {}
        for identity, run in self.runs.items():
            if identity in self.seconds:
                states[identity] = Status("done")
                continue
            states[identity] = status(record_of(run.settings, identity), now)
            if states[identity].state == "done" and (result := readable_result(run)):
                self.seconds[identity] = result.wall_seconds
        return Look(states, *self._left(states))

    def name(self, identity: str) -> str:
        run = self.runs[identity]
        return f"{run.cell.row} {run.cell.column} {run.cell.rule} seed {run.settings.seed}"

    def _left(self, states: Mapping[str, Status]) -> tuple[float, int]:
        left, unknown, told = 0.0, 0, set[str]()
        known = {**self.elsewhere, **self.seconds}
        for table in self.tables:
            todo = [run for run in table if run.identity in states and run.identity not in told]
            todo = [run for run in todo if states[run.identity].state not in ("done", "failed")]
            told |= {run.identity for run in todo}
            for run, cost in zip(todo, expected_seconds(table, todo, known), strict=True):
                each = states[run.identity]
                left += (cost.seconds or 0.0) * (1 - each.epoch / each.epochs if each.epochs else 1)
                unknown += cost.seconds is None
        return left / max(1, sum(each.state == "running" for each in states.values())), unknown


class Board:
    """Shows progress: live on a terminal, else a line now and then."""

    def __init__(self, watched: Watched, console: Console) -> None:
        self._watched = watched
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next, self._printed = 0.0, ""

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, at_once: bool = False) -> Look | None:
        """Look again, if it is time to: looking takes at most a tenth of the time, however many runs there are."""
        started = time.monotonic()
        if not at_once and started < self._next:
            return None
        look = self._watched.look()
        if self._live:
            self._live.update(self._render(look), refresh=True)
        elif str(look) != self._printed:
            self._printed = str(look)
            print(f"{look}{self._running(look)}", flush=True)
        pause = 1.0 if self._live else PLAIN_SECONDS
        self._next = time.monotonic() + max(pause, 10 * (time.monotonic() - started))
        return look

    def _running(self, look: Look) -> str:
        names = [self._watched.name(each) for each, found in look.states.items() if found.state == "running"]
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f": {', '.join(names[:SHOWN])}{more}" if names else ""

    def _render(self, look: Look) -> Text:
        lines = [str(look)]
        named = [(each, found) for each, found in look.states.items() if found.state in ("running", "lost", "failed")]
        for identity, found in named[:SHOWN]:
            epochs = f", epoch {found.epoch}" + (f" of {found.epochs}" if found.epochs else "")
            lines.append(f"  {found.state:<8}{self._watched.name(identity)}{epochs}: {found.text.splitlines()[0]}")
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
