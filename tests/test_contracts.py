"""What each task keeps with each of its models, rules and data sets. A new one is tested by being there."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils import _pytree as pytree

from dfa_bench.errors import ConfigError
from dfa_bench.runs.record import Record
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, build_task, data_card
from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.tasks.graphs.sparse import SparseMatrix
from dfa_bench.training.execute import execute
from dfa_bench.training.rules import given
from dfa_bench.training.trainer import build_learner

CONFIGS = resource_folder("configs")
RULES = sorted(path.stem for path in (CONFIGS / "rule").glob("*.yaml"))
ON_EVERY_MODEL = {
    "bp",
    "dfa",
    "fa",
    "shallow",
}  # the others differ from these in what is sent, not in how it gets there
# The error sources of these have no one-hot targets in their shape, and these have no graph.
MAKE_NO_SENSE = {(task, "drtp") for task in ("language", "links", "view_synthesis")}
MAKE_NO_SENSE |= {(task, "dfa_gnn") for task in ("clicks", "language", "view_synthesis")}
STREAMING = {rule for rule in RULES if "streaming" in OmegaConf.load(CONFIGS / "rule" / f"{rule}.yaml")}
TASKS = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))


def models() -> Iterator[tuple[str, str]]:
    """Each task with each model that is for it."""
    for path in sorted((CONFIGS / "model").glob("*.yaml")):
        for task in OmegaConf.load(path).model.tasks:
            yield task, path.stem


def datasets() -> Iterator[tuple[str, str]]:
    """Each task with each data set that is for it."""
    for path in sorted((CONFIGS / "dataset").glob("*.yaml")):
        for task in OmegaConf.load(path).get("tasks", []):
            yield task, path.stem


def described() -> Iterator[tuple[str, str, str]]:
    """The paper's rules and feedback alignment with every model, the others with each task's own choice of model."""
    for task, model in models():
        own = {"/model": model} in OmegaConf.load(CONFIGS / "task" / f"{task}.yaml").defaults
        yield from ((task, model, rule) for rule in RULES if own or rule in ON_EVERY_MODEL)


def trained() -> Iterator[tuple[str, str, str]]:
    """As described, but for rules that the cheapest task has shown to train and to go on."""
    return (each for each in described() if each[0] == "nodes" or each[2] in ON_EVERY_MODEL)


def streamed() -> Iterator[tuple[str, str, str]]:
    """DFA with every model, and the other rules that can stream where the cheapest task has them."""
    return ((task, model, rule) for task, model, rule in trained() if rule in STREAMING)


def overrides(task: str, model: str, rule: str) -> list[str]:
    return [f"task={task}", f"model={model}", f"rule={rule}"]  # on the task's own data set


def test_every_task_has_a_model():
    assert {task for task, _ in models()} == set(TASKS)


@pytest.mark.parametrize("configuration", list(trained()), ids=" ".join)
def test_a_configuration_trains_is_described_and_goes_on_after_an_interruption(
    configuration, smoke, tmp_path, monkeypatch
):
    chosen, few = overrides(*configuration), ["trainer.max_epochs=2", "trainer.checkpoint_seconds=0"]
    settings = smoke(*chosen, *few)
    try:
        whole = execute(smoke(*chosen, *few, f"store.root={tmp_path / 'whole'}"))
    except ConfigError as error:
        if _does_not_apply(settings, error):
            return
        raise
    assert whole.result.status == "finished"
    assert whole.result.epochs == 2
    assert any(name.startswith("test/") for name in whole.result.metrics)

    append = Record.append_metrics

    def interrupted(record: Record, line: dict[str, float]) -> None:
        if line["epoch"] == 2:
            raise KeyboardInterrupt
        append(record, line)

    monkeypatch.setattr(Record, "append_metrics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(settings)
    monkeypatch.undo()
    resumed = execute(settings)
    assert resumed.result.metrics == whole.result.metrics
    assert [line["epoch"] for line in Record(resumed.folder).read_metrics()] == [1, 2]
    assert _same_weights(whole.folder, resumed.folder)


@pytest.mark.parametrize("configuration", list(described()), ids=" ".join)
def test_a_rule_leaves_initial_weights_alone_and_describes_every_parameter(configuration, smoke):
    settings = smoke(*overrides(*configuration))
    task = build_task(settings)
    try:
        model, attached = build_learner(settings, task)
    except ConfigError as error:
        if _does_not_apply(settings, error):
            return
        raise
    torch.manual_seed(settings.seed)
    plain = task.build_model()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
    assert set(attached.describe().learns_from) == {name for name, _ in model.named_parameters()}
    attached.remove()


@pytest.fixture
def default_dtype() -> Iterator[None]:
    """May be changed."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("configuration", list(streamed()), ids=" ".join)
def test_streaming_gives_the_same_gradients(configuration, smoke, default_dtype):
    settings = smoke(*overrides(*configuration))
    task, found = build_task(settings), []
    batch = pytree.tree_map(_double, next(iter(task.batches(1, Shard()))))
    if not settings.feedback:
        return  # no points
    for streaming in (False, True):
        rule = settings.rule.model_copy(update={"streaming": streaming})
        model, attached = build_learner(settings.model_copy(update={"rule": rule}), task)
        assert attached.streams == streaming
        torch.set_default_dtype(torch.float64)  # of what a forward makes
        model.double().train()
        attached.double()
        for _ in range(2):
            attached.begin_step(**given(attached, task, batch))
            task.loss(model, batch).backward()
        tensors = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        torch.set_default_dtype(torch.float32)
        found.append((tensors | dict(model.named_buffers()), torch.get_rng_state()))
    (ordinary, random), (streamed, other) = found
    assert torch.equal(random, other)
    assert streamed.keys() == ordinary.keys()
    for name, expected in ordinary.items():
        torch.testing.assert_close(streamed[name], expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("task, dataset", list(datasets()), ids=map(" ".join, datasets()))
def test_a_data_set_has_a_stand_in_that_its_tasks_learn_from(task, dataset, smoke):
    values = OmegaConf.load(CONFIGS / "dataset" / f"{dataset}.yaml")
    users_own = [f"dataset.{key}=mine" for key in values if OmegaConf.is_missing(values, key)]
    settings = smoke(f"task={task}", f"dataset={dataset}", *users_own)
    assert data_card(settings).kind == "stand-in"
    built = build_task(settings)
    model = built.build_model()
    batch = next(iter(built.batches(1, Shard())))
    assert built.loss(model, batch).isfinite()
    with torch.no_grad():
        assert built.watch.metric in built.evaluate(model.eval(), "val")


def _does_not_apply(settings: RunSettings, error: ConfigError) -> bool:
    """A model without hidden layers (FM) has no points for a rule that needs some; a task may have no targets in the
    shape of its errors, or no graph, for a rule that needs those. The error says so."""
    if f"rule={settings.rule.name} needs the " in str(error):
        return (settings.task.name, settings.rule.name) in MAKE_NO_SENSE
    return not settings.feedback and "at least one point" in str(error)


def _double(part: object) -> object:
    """A part of a batch in float64."""
    if isinstance(part, Graph):
        return Graph(_double(part.features), part.edge_index)
    if isinstance(part, SparseMatrix):
        return dataclasses.replace(part, values=part.values.double())
    return part.double() if isinstance(part, torch.Tensor) and part.is_floating_point() else part


def _same_weights(one: Path, other: Path) -> bool:
    first, second = (torch.load(folder / "model.pt", weights_only=True)["model"] for folder in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)
