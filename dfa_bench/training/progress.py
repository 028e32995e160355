"""Progress of one run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

QUIET_SECONDS = 5.0  # between plain lines


class EpochLine:
    """Shows the epoch, the loss and the validation metric of a run on standard error."""

    def __init__(self, name: str, epochs: int, done: int, shown: bool) -> None:
        self._epochs, self._name = epochs, name
        live = shown and sys.stderr.isatty()
        self._bar = tqdm(total=epochs, initial=done, desc=name, unit="epoch", dynamic_ncols=True) if live else None
        self._plain = shown and not live
        self._printed = time.monotonic()

    def show(self, epoch: int, metrics: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(epoch - self._bar.n)
        elif self._plain and (epoch == self._epochs or time.monotonic() - self._printed > QUIET_SECONDS):
            self._printed = time.monotonic()
            print(f"{self._name}: epoch {epoch} of {self._epochs}, {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
