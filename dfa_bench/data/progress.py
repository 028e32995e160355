"""Progress on standard error: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

LIVE_SECONDS, PLAIN_SECONDS = 0.1, 5.0  # between two updates of what is shown


class Bar:
    """How far some work has come; also a context manager.

    `total`, `update`, `reset` and `close` are those that pooch expects of a progress bar.

    Args:
        name: of the work.
        unit: what is counted, in the singular: "epoch", "file"; "B" for bytes.
        total: None while it is unknown.
        done: before the work starts, when it is resumed.
        shown: False: nothing is.
        stays: a live bar stays on the terminal when it is closed.
    """

    def __init__(
        self, name: str, unit: str, total: int | None = None, done: int = 0, shown: bool = True, stays: bool = False
    ) -> None:
        self.total, self.done = total, done
        self._name, self._unit, self._text = name, unit, ""
        live = shown and sys.stderr.isatty()
        self._seconds = LIVE_SECONDS if live else PLAIN_SECONDS if shown else math.inf
        self._shown_at = time.monotonic()
        self._live = _live_bar(unit, stays) if live else None
        if self._live is not None:
            self._live.add_task(name, total=total, completed=done, amount=self._amount(), text="")
            self._live.start()

    def update(self, amount: int = 1) -> None:
        self.to(self.done + amount)

    def to(self, done: int, text: str = "", at_once: bool = False) -> None:
        """Set how much is done.

        Args:
            text: shown behind it.
            at_once: show it even if something was shown a moment ago.
        """
        self.done, self._text = done, text
        if time.monotonic() - self._shown_at >= self._seconds or (at_once and self._seconds < math.inf):
            self._show()

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        if self._live is not None:
            self._show()
            self._live.stop()
            self._live, self._seconds = None, math.inf

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        if self._live is None:
            told = f"{self._amount()}, {self._text}" if self._text else self._amount()
            print(f"{self._name}: {told}", file=sys.stderr, flush=True)
        else:
            (task,) = self._live.task_ids
            self._live.update(
                task, total=self.total, completed=self.done, refresh=True, amount=self._amount(), text=self._text
            )

    def _amount(self) -> str:
        if self._unit != "B":
            return f"{self._unit} {self.done}" + (f" of {self.total}" if self.total is not None else "")
        from rich.filesize import decimal

        return decimal(self.done) + (f" of {decimal(self.total)}" if self.total else "")


def tracked(items: Iterable[T], name: str, unit: str, total: int, shown: bool = True) -> Iterator[T]:
    """The items, with a bar that counts them."""
    with Bar(name, unit, total, shown=shown) as bar:
        for item in items:
            yield item
            bar.update()


def _live_bar(unit: str, stays: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    def whole() -> Column:
        return Column(no_wrap=True)

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(15, table_column=whole()),
        TextColumn("{task.fields[amount]}", markup=False),
        *([TransferSpeedColumn(whole())] if unit == "B" else []),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=whole()),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column()),  # what a narrow terminal wraps
        console=Console(stderr=True),
        auto_refresh=False,  # no thread; it is shown anew when there is something new
        transient=not stays,
        redirect_stdout=False,  # what a command prints may go to a file
    )
