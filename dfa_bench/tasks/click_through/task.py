"""Click-through rate prediction (Table 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, PositiveInt, validate_call
from torch import Tensor, nn

from dfa_bench.settings.schema import Component, DataSettings
from dfa_bench.tasks.base import ALONE, Shard, Split, Watch, build
from dfa_bench.tasks.click_through.datasets import ClickDataset
from dfa_bench.tasks.click_through.interactions import Interactions
from dfa_bench.tasks.indices import sent
from dfa_bench.tasks.ranking import roc_auc

EVALUATION_ROWS = 8192  # at a time
COPIED_ROWS = 2**20  # at a time, from the memory map to a device


class ClickBatch(NamedTuple):
    ids: Tensor  # (N, F) int32
    clicked: Tensor  # (N,) float


class ClickTable(NamedTuple):
    """All rows on one device."""

    ids: Tensor  # (rows, F) int32
    labels: Tensor  # (rows,) uint8

    @classmethod
    def of(cls, data: Interactions, device: torch.device) -> ClickTable:
        """A copy, made in parts: the memory map may be larger than memory."""
        ids = torch.empty(data.ids.shape, dtype=torch.int32, device=device)
        for start in range(0, len(ids), COPIED_ROWS):
            rows = slice(start, start + COPIED_ROWS)
            ids[rows] = torch.from_numpy(np.array(data.ids[rows]))
        return cls(ids, torch.from_numpy(np.array(data.labels)).to(device))


class RowBatches:
    """Batches of rows in a given order, gathered where the data are; a last row left alone is passed over.

    Batch normalisation has no variance to divide a single row by.
    """

    def __init__(self, data: Interactions | ClickTable, rows: np.ndarray, size: int) -> None:
        self._data, self._rows, self._size = data, rows, size

    def __len__(self) -> int:
        whole, rest = divmod(len(self._rows), self._size)
        return whole + (rest > 1)

    def __iter__(self) -> Iterator[ClickBatch]:
        for start in range(0, len(self) * self._size, self._size):
            yield gather(self._data, self._rows[start : start + self._size])


def gather(data: Interactions | ClickTable, rows: np.ndarray) -> ClickBatch:
    if isinstance(data, ClickTable):
        picked = sent(torch.from_numpy(rows), data.ids.device)
        return ClickBatch(data.ids[picked], data.labels[picked].float())
    return ClickBatch(torch.from_numpy(data.ids[rows]), torch.from_numpy(data.labels[rows]).float())


class ClickPrediction:
    """Predict whether a row is a click. The split is the same for all seeds.

    Args:
        dataset, model, data, seed: see `base.Task`.
        batch: rows a step, over all processes together.
        shuffle: draw the order of the training rows anew each epoch; by default it is one fixed random order, as in the
            released code.
    """

    version: ClassVar[int] = 1
    watch: ClassVar[Watch] = Watch("auc", "higher")
    table: ClassVar[str] = "Table 2"
    batch_sizes: ClassVar[tuple[str, ...]] = ("batch",)

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        dataset: ClickDataset,
        model: Component,
        data: DataSettings,
        seed: int,
        batch: PositiveInt,
        shuffle: bool = False,
    ) -> None:
        self.data = dataset.load(data)
        self.source: Interactions | ClickTable = self.data
        self.rows = self.data.split()
        self.model, self.seed, self.batch, self.shuffle = model, seed, batch, shuffle

    def build_model(self) -> nn.Module:
        sizes = {"fields": self.data.fields, "vocabulary": self.data.vocabulary}
        model: nn.Module = build(self.model, "model", **sizes)
        return model

    def example(self) -> object:
        return gather(self.source, self.rows["train"][:2]).ids

    def batches(self, epoch: int, shard: Shard) -> RowBatches:
        rows = self.rows["train"]
        if self.shuffle:
            rows = np.random.default_rng([self.seed, epoch]).permutation(rows)
        share = len(rows) // shard.of  # as many rows, so as many steps, in each process
        return RowBatches(self.source, rows[shard.rank :: shard.of][:share], shard.part_of(self.batch, "task.batch"))

    def data_bytes(self) -> int:
        return self.data.ids.nbytes + self.data.labels.nbytes

    def move_data(self, device: torch.device) -> None:
        self.source = ClickTable.of(self.data, device)

    def loss(self, model: nn.Module, batch: ClickBatch) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch.ids), batch.clicked)

    def targets(self, batch: ClickBatch) -> Tensor:
        return batch.clicked

    def evaluate(self, model: nn.Module, split: Split, shard: Shard = ALONE) -> dict[str, float]:
        logits = predict(model, self.source, self.rows[split], shard)
        clicked = torch.from_numpy(self.data.labels[self.rows[split]]).to(logits.device)
        loss = F.binary_cross_entropy_with_logits(logits.double(), clicked.double())
        return {"auc": roc_auc(clicked.bool(), logits), "log_loss": loss.item()}


@torch.no_grad()
def predict(model: nn.Module, data: Interactions | ClickTable, rows: np.ndarray, shard: Shard = ALONE) -> Tensor:
    """Logits (rows,) of a model in evaluation mode, by all processes together, on the model's device."""
    device = next(model.parameters()).device
    starts = shard.share(range(0, len(rows), EVALUATION_ROWS))
    parts = (gather(data, rows[start : start + EVALUATION_ROWS]).ids.to(device) for start in starts)
    logits = [model(ids).float() for ids in parts]
    if shard.of > 1:
        logits = [each.to(device) for each in shard.gather([each.cpu() for each in logits])]
    return torch.cat(logits)
