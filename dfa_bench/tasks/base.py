"""The doors of a task: what the one trainer asks of every domain."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import ConfigError
from dfa_bench.settings.components import import_class
from dfa_bench.settings.schema import Component, DatasetSettings, DataSettings, RunSettings, explain

if TYPE_CHECKING:  # cards of data are wanted without PyTorch
    import torch
    from torch import Tensor, nn

Item = TypeVar("Item")
Made = TypeVar("Made")
Split = Literal["val", "test"]


@dataclass(frozen=True)
class Watch:
    """The metric that early stopping and the choice of weights go by."""

    metric: str  # as `evaluate("val")` names it, without the split
    better: Literal["higher", "lower"]

    def improves(self, value: float, best: float | None) -> bool:
        return best is None or (value > best if self.better == "higher" else value < best)


@dataclass(frozen=True)
class Shard:
    """The part of the work that one of several processes does."""

    rank: int = 0
    of: int = 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those items that are this process's: every `of`-th."""
        return items[self.rank :: self.of]

    def gather(self, mine: Sequence[Made]) -> list[Made]:
        """What all processes have made of their `share`, in the order of the items, in each of them."""
        if self.of == 1:
            return [*mine]
        import torch

        parts: list[Any] = [None] * self.of
        torch.distributed.all_gather_object(parts, [*mine])
        whole: list[Any] = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            whole[rank :: self.of] = part
        return whole

    def part_of(self, batch: int, setting: str) -> int:
        """How much of a batch is this process's.

        Raises:
            ConfigError: naming the setting, if the batch does not divide.
        """
        if batch % self.of:
            raise ConfigError(f"{setting}={batch} does not divide into {self.of} processes.")
        return batch // self.of

    def refuse_several(self, task: str) -> None:
        """For tasks whose batch is one graph.

        Raises:
            ConfigError: there are several processes.
        """
        if self.of > 1:
            raise ConfigError(
                f"task={task} trains on one whole graph, which does not divide into {self.of} processes. Set "
                f"trainer.devices=1; several runs at a time use several devices (dfa-bench reproduce --jobs {self.of})."
            )


ALONE = Shard()


class Batches(Protocol):
    """What one epoch goes through: it knows how many there are before it makes them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class Dataset(Protocol):
    """A data set before it is loaded: enough to know which run this is."""

    def card(self, data: DataSettings) -> DataCard: ...

    def fetch(self, data: DataSettings) -> Path:
        """The folder with the files, downloading small ones; raises MissingData or CorruptData if they are not here."""
        ...


class Task(Protocol):
    """A model to train, batches to train it on, and a way to judge it.

    It never steps an optimizer, writes a file or looks at the learning rule.

    `batches` may refuse several processes. `evaluate` may take a third argument, `shard: Shard`: then every process
    evaluates its `shard.share` of a split, and `shard.gather` brings what they found together.

    Optional: `table`, the table of the paper that it is of ("Table 3"); `data_card`, see the function of this name;
    `batch_sizes`, those of its arguments that the memory of a step grows with;
    a method for each thing that a learning rule may need to know of a batch, such as `targets(batch) -> Tensor`;
    the methods of `MovesData`; `draws_for_whole_batch = True`, if what its model draws at random does not depend on the
    number of processes, given one generator for all; `compiles = False`, if torch.compile does not take its models.
    """

    version: ClassVar[int]  # of its numerics: raise it when a change moves results, so that old runs are not reused
    watch: ClassVar[Watch]

    def __init__(self, dataset: Any, model: Component, data: DataSettings, seed: int, **task_settings: Any) -> None: ...

    def build_model(self) -> nn.Module:
        """The model with initial values from the global generator."""
        ...

    def example(self) -> object:
        """Arguments of one forward, as `Rule.attach` takes them."""
        ...

    def batches(self, epoch: int, shard: Shard) -> Batches:
        """The batches of one epoch, as many in each; the same ones for one (seed, epoch, shard)."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Training loss of a batch, a scalar."""
        ...

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Metrics of a split, without its name: {"accuracy": 0.8}. The model is in eval mode, without gradients."""
        ...


@runtime_checkable
class MovesData(Protocol):
    """A task whose batches can be made on the device, so that a step sends indices there instead of data.

    The indices are drawn on the CPU, from generators of the task's own: batches are the same ones on every device, and
    a thread may make them ahead of time where the data do not fit.
    """

    def data_bytes(self) -> int:
        """How much memory the data will take on a device."""
        ...

    def move_data(self, device: torch.device) -> None:
        """Make batches there from now on."""
        ...


def task_class(settings: RunSettings) -> type[Task]:
    found: type[Task] = import_class(settings.task, "task")
    return found


def build_dataset(settings: RunSettings) -> Dataset:
    dataset: Dataset = build(settings.dataset, "dataset", name=settings.dataset.name)
    return dataset


def data_card(settings: RunSettings) -> DataCard:
    """What a run is on: its data set, and further ones among its task's settings (the corpus of a tokenizer)."""
    card = build_dataset(settings).card(settings.data)
    if settings.data.stand_in:
        return card
    for value in settings.task.arguments.values():
        if isinstance(value, Mapping) and "_target_" in value:
            component = DatasetSettings.model_validate(value)
            dataset: Dataset = build(component, "dataset", name=component.name)
            card = _with(card, dataset.card(settings.data))
    return card


def _with(card: DataCard, other: DataCard) -> DataCard:
    if other.sha256 == card.sha256:
        return card
    both = hashlib.sha256(f"{card.sha256} {other.sha256}".encode()).hexdigest()
    return dataclasses.replace(card, sha256=both, whole=card.whole and other.whole)


def build_task(settings: RunSettings) -> Task:
    """Load the data of a run and set up its task.

    Raises:
        MissingData, CorruptData: see `dfa_bench.data.resolve.find`.
        ConfigError: a setting of the task is unknown or impossible.
    """
    parts = {"model": settings.model, "data": settings.data, "seed": settings.seed}
    task: Task = build(settings.task, "task", dataset=build_dataset(settings), **parts)
    return task


def build(component: Component, part: str, **given: Any) -> Any:
    """Call a component's class with its settings and what is given here.

    Raises:
        ConfigError: naming the setting that the class does not take, or whose value is impossible.
    """
    target = import_class(component, part)
    try:
        return target(**component.arguments, **given)
    except ValidationError as error:
        raise ConfigError(explain(error, prefix=part)) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{part}={component.name}: {error}") from error
