"""Where batches are made: on the device, if the data fit there, else ahead of time by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from dfa_bench.tasks.base import MovesData, Shard, Task

SHARE = 0.5  # of the free memory that data may take: the rest is for gradients, the optimizer and activations
AHEAD = 4  # batches


class Feed:
    """The batches of a task for a device.

    Args:
        may_move: data may live on the device.
    """

    def __init__(self, task: Task, device: torch.device, may_move: bool) -> None:
        self._task, self._ahead = task, False
        if device.type == "cuda" and isinstance(task, MovesData):
            free, _ = torch.cuda.mem_get_info(device)
            self._ahead = not may_move or task.data_bytes() > SHARE * free
            if not self._ahead:
                task.move_data(device)

    def batches(self, epoch: int, shard: Shard) -> Iterator[Any]:
        batches = self._task.batches(epoch, shard)
        return prefetched(batches, pinned) if self._ahead else iter(batches)


def pinned(batch: Any) -> Any:
    """A batch in memory from which copies to a CUDA device do not wait."""
    return apply_to_collection(batch, Tensor, Tensor.pin_memory)


def prefetched(batches: Iterable[Any], prepare: Callable[[Any], Any]) -> Iterator[Any]:
    """The same batches in the same order, some of them made ahead of time by a thread.

    Args:
        batches: made from generators of their own: the thread runs beside the steps.
        prepare: called on each batch in the thread.
    """
    made: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(AHEAD)
    ended = threading.Event()

    def hand_over(batch: Any, error: BaseException | None) -> None:
        while not ended.is_set():
            try:
                made.put((batch, error), timeout=0.1)
            except queue.Full:
                continue
            break

    def make() -> None:
        end: BaseException = StopIteration()
        try:
            for batch in batches:
                hand_over(prepare(batch), None)
                if ended.is_set():
                    return
        except Exception as error:
            end = error
        hand_over(None, end)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            batch, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield batch
    finally:
        ended.set()
        thread.join()
