"""A click log with a known teacher: the stand-in of this task, and what tests measure models against."""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np

from dfa_bench.data.resolve import DataCard
from dfa_bench.tasks.click_through.interactions import Interactions


class Teacher(NamedTuple):
    """How clicks are drawn.

    Args:
        rows, fields, values: sizes; ids within a field are Zipf-distributed.
        linear, pairs, triples: standard deviation of the logit's parts of first, second and third order.
        seed: of the generator.
    """

    rows: int
    fields: int
    values: int
    linear: float
    pairs: float
    triples: float
    seed: int


STAND_IN = Teacher(rows=3000, fields=6, values=20, linear=0.5, pairs=1.0, triples=1.0, seed=0)


def draw_clicks(teacher: Teacher) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids within their fields (rows, fields), labels (rows,) and the teacher's logits (rows,).

    Each value of each field has a sign vector; products of two and three of them, of neighbouring fields, are the
    planted interactions. The logits rank the rows as well as anything can: their AUC is the best achievable one.
    """
    random = np.random.default_rng(teacher.seed)
    weights = 1 / np.arange(1, teacher.values + 1)
    local = random.choice(teacher.values, (teacher.rows, teacher.fields), p=weights / weights.sum())
    effect = random.standard_normal((teacher.fields, teacher.values))
    sign = random.choice([-1.0, 1.0], (teacher.fields, teacher.values))
    across = np.arange(teacher.fields)
    first, signs = effect[across, local], sign[across, local]  # (rows, fields)
    second = np.stack([signs[:, i] * signs[:, i + 1] for i in range(0, teacher.fields - 1, 2)], axis=1)
    third = np.stack([signs[:, i] * signs[:, i + 1] * signs[:, i + 2] for i in range(0, teacher.fields - 2, 3)], axis=1)
    parts = ((teacher.linear, first), (teacher.pairs, second), (teacher.triples, third))
    logits = sum(scale * part.mean(1) * np.sqrt(part.shape[1]) for scale, part in parts)
    labels = random.random(teacher.rows) < 1 / (1 + np.exp(-logits))
    return local, labels.astype(np.uint8), np.asarray(logits)


def planted(teacher: Teacher) -> Interactions:
    """The teacher's rows, with one range of ids per field."""
    local, labels, _ = draw_clicks(teacher)
    ids = (local + teacher.values * np.arange(teacher.fields)).astype(np.int32)
    return Interactions("planted interactions", ids, labels, teacher.fields * teacher.values)


@functools.cache
def planted_interactions() -> Interactions:
    return planted(STAND_IN)


def planted_card() -> DataCard:
    made_of = hashlib.sha256(repr(STAND_IN).encode()).hexdigest()
    return DataCard("planted interactions", "stand-in", STAND_IN.rows, made_of)
