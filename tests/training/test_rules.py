"""Every rule through the one trainer: what it is given at a step, and feedback alignment on all tasks of the suite."""

import itertools
import warnings
from functools import partialmethod

import pytest
import torch
from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.feedback import Attachment, Backprop, DirectFeedback, FeedbackAlignment, Rule
from dfa_bench.runs.record import Record
from dfa_bench.settings.compose import resource_folder
from dfa_bench.tasks.base import build_task
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training import trainer
from dfa_bench.training.execute import execute
from dfa_bench.training.trainer import build_learner

CLICKS = ("afn", "autoint", "dcn", "deepfm", "fm")
SUITE = [
    *(["task=nodes", f"model={model}"] for model in ("cheb", "dna", "gat", "gcn", "spline")),
    ["task=links", "model=gae"],
    *(["task=clicks", "dataset=criteo", f"model={model}"] for model in CLICKS),
    ["task=language", "dataset=wikitext", "model=transformer"],
    ["task=view_synthesis", "dataset=lego", "model.density_noise=1.0", "model=nerf"],  # noise: nothing is seen without
]


def by_fa(smoke, overrides, *more):
    return smoke(*overrides, "rule=fa", *more)


@pytest.mark.parametrize("overrides", SUITE, ids=lambda overrides: overrides[-1].partition("=")[2])
def test_every_parameter_learns_by_feedback_alignment_where_there_is_a_layer_above(smoke, overrides):
    settings = by_fa(smoke, overrides)
    attachment = build_learner(settings, build_task(settings))[1]
    learns_from = attachment.describe().learns_from
    through = [name for name, sources in learns_from.items() if "feedback alignment" in sources]
    assert bool(through) == bool(attachment.point_names) == ("model=fm" not in overrides)
    assert all(learns_from.values())


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize(
    "overrides",
    [each for each in SUITE if each[-1] != "model=fm"],  # has no layers for DFA
    ids=lambda overrides: overrides[-1].partition("=")[2],
)
def test_no_reproduced_model_is_warned_of(smoke, overrides, variant):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module="dfa_bench")
        execute(smoke(*overrides, "rule=dfa", f"variant={variant}", "trainer.max_epochs=1"))


@pytest.mark.parametrize("model", ["dna", "gae", "deepfm", "transformer", "nerf"])  # one of each task
def test_what_learns_by_feedback_alignment_moves(smoke, model):
    overrides = next(each for each in SUITE if f"model={model}" in each)
    settings = by_fa(smoke, overrides, "trainer.max_epochs=2", "trainer.alignment_every=1")
    model, attachment = build_learner(settings, build_task(settings))
    outcome = execute(settings)
    assert Record(outcome.folder).has_alignment()
    trained = torch.load(Record(outcome.folder).model)["model"]
    learns_from = attachment.describe().learns_from
    through = [name for name, sources in learns_from.items() if "feedback alignment" in sources]
    assert all(not torch.equal(trained[name], model.state_dict()[name]) for name in through)


def test_a_run_that_streams_is_the_same_run(smoke, tmp_path):
    chosen = ["task=nodes", "model=gcn", "rule=dfa", "trainer.alignment_every=1"]
    ordinary = execute(smoke(*chosen))
    streamed = execute(smoke(*chosen, "rule.streaming=true", f"store.root={tmp_path / 'streamed'}"))
    assert streamed.result.identity == ordinary.result.identity
    assert streamed.result.metrics == ordinary.result.metrics
    assert streamed.result.numerics == "fp32, streamed, cpu"
    lines = [Record(run.folder).read_metrics() for run in (streamed, ordinary)]
    assert [each | {"seconds": 0} for each in lines[0]] == [each | {"seconds": 0} for each in lines[1]]


def test_what_does_not_go_with_streaming_is_named(smoke):
    chosen = ["task=clicks", "model=deepfm", "rule=dfa", "rule.streaming=true"]
    with pytest.raises(ConfigError, match="set trainer.compile=false"):
        execute(smoke(*chosen, "trainer.compile=true"))
    with pytest.raises(ConfigError, match="set trainer.alignment_every=null"):
        execute(smoke(*chosen, "trainer.devices=2", "trainer.alignment_every=1"))


@pytest.mark.parametrize("rule", ["bp", "dfa"])
@pytest.mark.parametrize("model", ["deepfm", "transformer", "nerf"])  # one of each task
def test_a_compiled_run_is_the_same_run_by_one_graph_for_each_shape(smoke, tmp_path, monkeypatch, model, rule):
    overrides = [*next(each for each in SUITE if f"model={model}" in each), f"rule={rule}", "trainer.max_epochs=1"]
    eager = execute(smoke(*overrides)).result
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager", fullgraph=True))
    torch._dynamo.utils.counters.clear()
    compiled = execute(smoke(*overrides, "trainer.compile=true", f"store.root={tmp_path / 'compiled'}")).result
    assert compiled.numerics == "fp32, compiled, cpu"
    assert compiled.metrics == pytest.approx(eager.metrics, rel=1e-4)
    # Training and evaluation, each with a last batch that may be shorter.
    assert 2 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


@pytest.mark.parametrize("overrides", SUITE[4:6], ids=["nodes", "links"])
def test_what_torch_compile_does_not_trace_is_refused(smoke, overrides):
    with pytest.raises(ConfigError, match=r"sparse matrices of task=(nodes|links).*trainer.capture=true"):
        execute(smoke(*overrides, "trainer.compile=true"))


def test_all_models_of_the_suite_are_tried():
    known = {path.stem for path in (resource_folder("configs") / "model").glob("*.yaml")}
    assert {each[-1].removeprefix("model=") for each in SUITE} == known


def test_which_modules_of_the_suite_are_layers(smoke):
    found = {}
    for overrides in SUITE:
        settings = by_fa(smoke, overrides)
        found[settings.model.name] = build_learner(settings, build_task(settings))[1].point_names
    assert found["gcn"] == ["conv2"], "the first sees sparse features, which have no gradient"
    assert found["gat"] == ["conv1", "conv2.lin"], "the first has its linear map outside"
    assert found["dna"][:2] == ["convs.0", "convs.1"], "whose linear maps are not called"
    assert found["dna"][-1] == "logits"
    assert found["fm"] == []
    assert "blocks.0.attention.queries_keys_values" in found["transformer"]
    assert all("norm" not in name and "embedding.weight" not in name for names in found.values() for name in names)


def test_a_resumed_run_has_the_same_matrices_and_results(smoke, tmp_path, monkeypatch):
    options = ["rule=fa", "trainer.max_epochs=6", "trainer.checkpoint_seconds=0"]
    whole = execute(smoke(*options, f"store.root={tmp_path / 'whole'}"))

    class Stopped(Exception):
        pass

    append, lines = Record.append_metrics, itertools.count(1)

    def stop(record, line):
        if next(lines) == 4:
            raise Stopped
        append(record, line)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "append_metrics", stop)
        with pytest.raises(Stopped):
            execute(smoke(*options))
    resumed = execute(smoke(*options))
    assert resumed.result.metrics == whole.result.metrics
    ours, theirs = (torch.load(Record(each.folder).model)["attachment"] for each in (resumed, whole))
    assert ours.keys() == theirs.keys() == {"conv2/weight"}
    assert torch.equal(ours["conv2/weight"], theirs["conv2/weight"])


# What a rule is given at a step.


class Watching(Attachment):
    """BP that writes down its steps."""

    needs = frozenset({"targets"})
    point_names, matrices = [], []

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.seen = []

    def begin_step(self, **given):
        self.seen.append(("begin", given, self.weight()))

    def end_step(self):
        self.seen.append(("end", {}, self.weight()))

    def weight(self):
        return next(self.model.parameters()).detach().clone()


class Watched(Rule):
    def build(self, model, paths, example):
        return Watching(model)

    def outcome(self, paths):
        return {}


@pytest.fixture
def watching(monkeypatch):
    built = []

    def attach(self, *args, **kwargs):
        built.append(Rule.attach(self, *args, **kwargs))
        return built[-1]

    monkeypatch.setattr(Watched, "attach", attach)
    monkeypatch.setattr(trainer, "build_rule", lambda settings: Watched())
    return built


def test_a_rule_is_given_what_it_needs_around_each_step(smoke, watching, monkeypatch):
    monkeypatch.setattr(NodeClassification, "targets", lambda self, batch: self.labels)
    execute(smoke("rule=bp", "trainer.max_epochs=3"))
    (attachment,) = watching
    assert [kind for kind, _, _ in attachment.seen] == ["begin", "end"] * 3
    for (_, given, before), (_, _, after) in zip(attachment.seen[::2], attachment.seen[1::2], strict=True):
        assert given.keys() == {"targets"}
        assert given["targets"].dtype == torch.long
        assert not torch.equal(before, after), "the optimizer's step lies between them"


def test_a_task_that_cannot_give_it_is_told_before_training(smoke, watching, monkeypatch):
    monkeypatch.delattr(NodeClassification, "targets")
    with pytest.raises(ConfigError, match="rule=bp needs the targets of a batch, which NodeClassification does not"):
        execute(smoke("rule=bp"))


def test_rules_say_whether_parameters_may_stay_without_gradient():
    assert not Backprop.leaves_parameters_out
    assert not FeedbackAlignment.leaves_parameters_out
    assert DirectFeedback.leaves_parameters_out
