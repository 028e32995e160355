"""Click logs with a known teacher: the stand-in of this task, what tests measure models against, and large ones."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dfa_bench.data.resolve import DataCard
from dfa_bench.tasks.click_through.compact import Chunk
from dfa_bench.tasks.click_through.interactions import Interactions

FEWEST_FIELDS = 3  # of which a product of three is made
CHUNK_ROWS = 500_000  # drawn at a time


class Teacher(NamedTuple):
    """How clicks are drawn.

    Args:
        rows, fields, values: sizes, of fields at least `FEWEST_FIELDS`; ids within a field are Zipf-distributed.
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
    local = _draw_ids(random, teacher, teacher.rows)
    tables = _draw_tables(random, teacher)
    logits = _logits(teacher, tables, local)
    return local, _draw_labels(random, logits), logits


def draw_chunks(teacher: Teacher) -> Iterator[Chunk]:
    """Rows of a teacher who has too many for memory; not those of `draw_clicks`, whose order of draws is another."""
    random = np.random.default_rng(teacher.seed)
    tables = _draw_tables(random, teacher)
    for start in range(0, teacher.rows, CHUNK_ROWS):
        local = _draw_ids(random, teacher, min(CHUNK_ROWS, teacher.rows - start))
        yield Chunk(_draw_labels(random, _logits(teacher, tables, local)), [*local.T])


class Tables(NamedTuple):
    """What each value of each field does, (fields, values)."""

    effect: np.ndarray
    sign: np.ndarray


def _draw_ids(random: np.random.Generator, teacher: Teacher, rows: int) -> np.ndarray:
    weights = 1 / np.arange(1, teacher.values + 1)
    return random.choice(teacher.values, (rows, teacher.fields), p=weights / weights.sum())


def _draw_tables(random: np.random.Generator, teacher: Teacher) -> Tables:
    size = (teacher.fields, teacher.values)
    return Tables(random.standard_normal(size), random.choice([-1.0, 1.0], size))


def _logits(teacher: Teacher, tables: Tables, local: np.ndarray) -> np.ndarray:
    across = np.arange(teacher.fields)
    first, signs = tables.effect[across, local], tables.sign[across, local]  # (rows, fields)
    second = np.stack([signs[:, i] * signs[:, i + 1] for i in range(0, teacher.fields - 1, 2)], axis=1)
    third = np.stack([signs[:, i] * signs[:, i + 1] * signs[:, i + 2] for i in range(0, teacher.fields - 2, 3)], axis=1)
    parts = ((teacher.linear, first), (teacher.pairs, second), (teacher.triples, third))
    return np.asarray(sum(scale * part.mean(1) * np.sqrt(part.shape[1]) for scale, part in parts))


def _draw_labels(random: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    return (random.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)


def planted(teacher: Teacher) -> Interactions:
    """The teacher's rows, with one range of ids per field."""
    local, labels, _ = draw_clicks(teacher)
    ids = (local + teacher.values * np.arange(teacher.fields)).astype(np.int32)
    return Interactions("planted interactions", ids, labels, teacher.fields * teacher.values)


@functools.cache
def planted_interactions() -> Interactions:
    return planted(STAND_IN)


def planted_card() -> DataCard:
    return DataCard("planted interactions", "stand-in", STAND_IN.rows, checksum(STAND_IN))


def checksum(teacher: Teacher) -> str:
    """Checksum of the teacher."""
    return hashlib.sha256(repr(teacher).encode()).hexdigest()
