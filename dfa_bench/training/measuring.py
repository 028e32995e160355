"""Alignment with BP, measured during training on the first batch of every N-th epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from dfa_bench.feedback import Attachment
from dfa_bench.feedback.alignment import GradientComparison
from dfa_bench.runs.record import ALIGNMENT, ALIGNMENT_STD
from dfa_bench.settings.schema import RunSettings


class MeasuredStep(NamedTuple):
    loss: Tensor
    metrics: dict[str, float]  # mean and standard deviation over rows, of each module
    extra_seconds: float  # that the step would not have taken unmeasured


def is_due(settings: RunSettings, epoch: int) -> bool:
    """Whether alignment is measured in an epoch: the first, whose first batch meets the initial weights, and each N-th
    after it. Rules that are compared with no other have none: BP's with itself is 1, and shallow training sends no
    gradient to its cuts.
    """
    every = settings.trainer.alignment_every
    return every is not None and settings.rule.entry.compared_with is not None and (epoch - 1) % every == 0


def measured_step(attachment: Attachment, backward: Callable[[], Tensor]) -> MeasuredStep:
    """A training step's forward and backward, which leave what they leave unmeasured, and one more of each by BP.

    Args:
        attachment: of the rule.
        backward: forward, backward; returns the loss.
    """
    comparison = GradientComparison(attachment)
    with comparison.by_rule():
        loss = backward()
    started = time.perf_counter()
    measured = comparison.with_bp(backward).paper
    metrics = {f"{ALIGNMENT}{name}": rows.mean for name, rows in measured.items()}
    metrics |= {f"{ALIGNMENT_STD}{name}": rows.std for name, rows in measured.items()}
    return MeasuredStep(loss, metrics, time.perf_counter() - started)
