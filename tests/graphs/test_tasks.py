"""Tasks on citation graphs: splits, isolated nodes, and what learns from what."""

import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from dfa_bench.experiments.protocol import run_settings
from dfa_bench.tasks.base import build_task
from dfa_bench.training.trainer import build_learner

MODELS = [("nodes", name) for name in ("cheb", "gcn", "spline", "gat", "dna")] + [("links", "gae")]


@pytest.mark.parametrize("task, model", MODELS)
def test_under_dfa_every_parameter_learns_and_none_in_two_ways(smoke, task, model):
    settings = smoke(f"task={task}", f"model={model}", "rule=dfa")
    _, attachment = build_learner(settings, build_task(settings))
    described = attachment.describe()
    assert described.both == []
    assert all(described.learns_from.values())


@pytest.mark.parametrize("task, model", MODELS)
def test_under_shallow_what_is_below_the_point_does_not_learn(smoke, task, model):
    settings = smoke(f"task={task}", f"model={model}", "rule=shallow")
    _, attachment = build_learner(settings, build_task(settings))
    below = {name: sources for name, sources in attachment.describe().learns_from.items() if "1" in name.split(".")[0]}
    assert below
    assert not any(below.values())


@pytest.mark.parametrize("task, model", MODELS)
def test_rules_of_one_seed_start_from_the_same_weights(smoke, task, model):
    states = []
    for rule in ("bp", "dfa", "shallow"):
        settings = smoke(f"task={task}", f"model={model}", f"rule={rule}", "seed=3")
        states.append(build_learner(settings, build_task(settings))[0].state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in state)


def test_the_public_split_is_planetoids(real_data):
    task = build_task(run_settings([f"data.root={real_data}"]))
    assert {name: len(nodes) for name, nodes in task.nodes.items()} == {"train": 140, "val": 500, "test": 1000}
    assert torch.bincount(task.labels[task.nodes["train"]]).tolist() == [20] * 7


def test_the_folds_cover_all_nodes_once(smoke):
    nodes = build_task(smoke("model=dna")).nodes
    assert sorted(torch.cat(list(nodes.values())).tolist()) == list(range(300))
    assert {name: len(part) for name, part in nodes.items()} == {"train": 60, "val": 60, "test": 180}


def test_the_folds_of_dna_are_drawn_with_the_runs_seed_as_in_the_released_code(smoke):
    for seed in (0, 7):
        task = build_task(smoke("model=dna", f"seed={seed}"))
        folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(task.labels, task.labels)
        assert task.nodes["train"].tolist() == next(folds)[1].tolist()


@pytest.mark.parametrize("model", ["cheb", "gcn", "spline", "gat", "dna"])
def test_isolated_nodes_of_citeseer_get_finite_outputs(real_data, model):
    settings = run_settings([f"data.root={real_data}", "dataset=citeseer", f"model={model}"])
    task = build_task(settings)
    with torch.no_grad():
        assert torch.isfinite(task.build_model().eval()(task.graph)).all()


def test_held_out_links_are_hidden_from_the_encoder_and_follow_the_seed(smoke):
    first, again, other = (build_task(smoke("task=links", "model=gae", f"seed={seed}")) for seed in (0, 0, 1))
    seen = {tuple(pair) for pair in first.graph.edge_index.t().tolist()}
    for links, non_links in first.held_out.values():
        assert not seen & {tuple(pair) for pair in links.t().tolist()}
        assert links.shape == non_links.shape
    for pairs, same in zip(first.held_out["test"], again.held_out["test"], strict=True):
        assert torch.equal(pairs, same)
    assert not torch.equal(first.held_out["test"][0], other.held_out["test"][0])
