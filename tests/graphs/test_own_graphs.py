"""A user's own graph in an .npz file."""

import hashlib

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dfa_bench.errors import ConfigError, CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import build_dataset, build_task
from dfa_bench.tasks.graphs.citation import CitationGraph
from dfa_bench.tasks.graphs.graph_file import read_graph
from dfa_bench.tasks.graphs.links import LinkPrediction
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.execute import execute

MODELS = [("nodes", name) for name in ("cheb", "gcn", "spline", "gat", "dna")] + [("links", "gae")]
NODES = 60


def arrays(**changes) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(NODES) % 3
    edges = np.stack([np.arange(NODES), (np.arange(NODES) + 3) % NODES])  # a ring for each class
    features = random.random((NODES, 12)) + 2 * np.eye(12)[labels]
    return {"edge_index": edges, "features": features, "labels": labels} | changes


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    return tmp_path / "mine.npz"


@pytest.mark.parametrize("task, model", MODELS)
def test_every_model_trains_on_it_and_no_run_is_the_papers(smoke, file, task, model):
    own = "dataset=graph", "dataset.name=mine", f"dataset.file={file}", "data.stand_in=false", "scale=cpu"
    result = execute(smoke(f"task={task}", f"model={model}", *own, "trainer.max_epochs=2")).result
    assert (result.dataset, result.protocol) == ("mine", "reduced")
    card = result.card
    assert (card.kind, card.rows) == ("real", NODES)
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_two_classes_in_separate_rings_are_told_apart(smoke, file):
    own = "dataset=graph", "dataset.name=mine", f"dataset.file={file}", "data.stand_in=false"
    assert execute(smoke(*own, "trainer.max_epochs=60")).result.metrics["test/accuracy"] > 0.9


def test_edges_are_undirected_single_and_no_loops(tmp_path):
    edges = np.array([[0, 1, 1, 2, 2, 4], [1, 0, 2, 1, 2, 3]], np.int32)
    np.savez(tmp_path / "g.npz", **arrays(edge_index=edges))
    found = read_graph(tmp_path / "g.npz", "mine").edge_index
    assert {tuple(edge) for edge in found.T.tolist()} == {(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)}
    assert found.shape == (2, 6)


def test_a_split_comes_as_numbers_or_masks(tmp_path):
    parts = {"train": np.arange(20), "val": np.arange(20, 30), "test": np.arange(30, 50)}
    masks = {name: np.isin(np.arange(NODES), nodes) for name, nodes in parts.items()}
    for number, split in enumerate((parts, masks)):
        np.savez(tmp_path / f"{number}.npz", **arrays(**split))
        graph = read_graph(tmp_path / f"{number}.npz", "mine")
        assert all(getattr(graph, name).tolist() == nodes.tolist() for name, nodes in parts.items())


def test_without_a_split_one_is_made_of_each_class_and_said(file, capsys):
    graph, again = read_graph(file, "mine"), read_graph(file, "mine")
    assert "mine.npz has no split; 60% of each class train" in capsys.readouterr().err
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        nodes = getattr(graph, name)
        assert torch.bincount(graph.labels[nodes]).tolist() == [count] * 3
        assert torch.equal(nodes, getattr(again, name))
    assert len(torch.cat([graph.train, graph.val, graph.test]).unique()) == NODES


def test_nodes_without_a_label_stay_out_of_splits_and_folds(smoke, tmp_path):
    labels = np.where(np.arange(NODES) < 15, -1, arrays()["labels"])
    np.savez(tmp_path / "g.npz", **arrays(labels=labels))
    own = "dataset=graph", "dataset.name=mine", f"dataset.file={tmp_path / 'g.npz'}", "data.stand_in=false"
    for split in ("public", "folds"):
        nodes = build_task(smoke(*own, f"task.split={split}")).nodes
        assert sorted(torch.cat(list(nodes.values())).tolist()) == list(range(15, NODES))


def test_a_graph_without_labels_is_for_links_only(smoke, tmp_path):
    np.savez(tmp_path / "g.npz", **{name: array for name, array in arrays().items() if name != "labels"})
    own = "dataset=graph", "dataset.name=mine", f"dataset.file={tmp_path / 'g.npz'}", "data.stand_in=false"
    assert build_task(smoke(*own, "task=links")).graph.nodes == NODES
    for split in ("public", "folds"):
        with pytest.raises(ConfigError, match="no labelled nodes for train and val and test. task=nodes needs labels"):
            build_task(smoke(*own, f"task.split={split}"))


def test_negative_features_are_not_normalised_by_their_sum(smoke, tmp_path):
    np.savez(tmp_path / "g.npz", **arrays(features=arrays()["features"] - 1))
    own = "dataset=graph", "dataset.name=mine", f"dataset.file={tmp_path / 'g.npz'}", "data.stand_in=false"
    for task in ("nodes", "links"):
        with pytest.raises(ConfigError, match="negative values. Set task.features=raw"):
            build_task(smoke(*own, f"task={task}"))
        build_task(smoke(*own, f"task={task}", "task.features=raw"))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"edge_index": arrays()["edge_index"].T}, r"edge_index has shape \(60, 2\)"),
        ({"edge_index": arrays()["edge_index"].astype(float)}, r"\(float64\); expected \(2, edges\), whole numbers"),
        (
            {"edge_index": arrays()["edge_index"] + 1},
            "edge_index ranges from 1 to 60, but features are of the 60 nodes",
        ),
        ({"edge_index": np.zeros((2, 0), int)}, r"edge_index has shape \(2, 0\)"),
        ({"features": arrays()["features"][0]}, r"features have shape \(12,\)"),
        ({"features": np.full((NODES, 2), np.nan)}, "features have NaN"),
        ({"features": np.full((NODES, 2), "a")}, "features have shape"),
        ({"labels": arrays()["labels"][:-1]}, r"labels have shape \(59,\)"),
        ({"labels": arrays()["labels"] - 2}, "-1 for a node without label"),
        ({"train": np.arange(5)}, "has train, but a split is train, val and test"),
        ({"train": np.arange(9), "val": np.arange(8, 12), "test": np.arange(20, 30)}, "is in two of train"),
        ({"train": np.arange(9), "val": np.arange(60, 62), "test": np.arange(20, 30)}, "val ranges from 60 to 61"),
        ({"train": np.arange(9), "val": np.array([], int), "test": np.arange(20, 30)}, r"val has shape \(0,\)"),
        ({"labels": np.full(NODES, -1), "train": [1], "val": [2], "test": [3]}, "of train, val or test has no label"),
    ],
)
def test_an_impossible_graph_is_told(tmp_path, changes, told):
    np.savez(tmp_path / "g.npz", **arrays(**changes))
    with pytest.raises(CorruptData, match=told):
        read_graph(tmp_path / "g.npz", "mine")


def test_a_file_of_another_form_is_told_and_never_unpickled(tmp_path):
    path = tmp_path / "g.npz"
    np.savez(path, x=arrays()["features"], y=arrays()["labels"])
    with pytest.raises(CorruptData, match="has no array 'edge_index'. It has x, y"):
        read_graph(path, "mine")
    np.savez(path, **arrays(features=np.array([{"a": 1}], object)))
    with pytest.raises(CorruptData, match="is not an .npz file of plain arrays"):
        read_graph(path, "mine")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"0,1\n"):
        path.write_bytes(damaged)
        with pytest.raises(CorruptData, match=r"is not an .npz file of plain arrays|has no array"):
            read_graph(path, "mine")
    np.save(tmp_path / "g.npy", np.zeros(3))
    with pytest.raises(CorruptData, match="is not an .npz file"):
        read_graph(tmp_path / "g.npy", "mine")


def test_a_file_that_is_not_there_or_not_given_is_told(smoke, tmp_path):
    settings = smoke("dataset=graph", "dataset.name=mine", "dataset.file=no.npz", "data.stand_in=false")
    with pytest.raises(MissingData, match="dataset.file=no.npz: there is no such file in"):
        build_dataset(settings).card(settings.data)
    with pytest.raises(ConfigError, match="The setting 'dataset.file' is missing"):
        smoke("dataset=graph", "dataset.name=mine")
    np.savez(tmp_path / "no.npz", **arrays())
    below = settings.data.model_copy(update={"root": str(tmp_path)})
    assert build_dataset(settings).card(below).rows == NODES


class Ring:
    """All that a data set of one's own needs to be."""

    def load(self, data: DataSettings) -> CitationGraph:
        nodes = torch.arange(NODES)
        edges = torch.stack([nodes, (nodes + 1) % NODES])
        return CitationGraph(torch.eye(NODES), edges, nodes % 2, nodes[:20], nodes[20:40], nodes[40:])


def test_a_task_takes_any_class_that_loads_a_graph_and_no_other(smoke):
    settings = smoke()
    rest = {"model": settings.model, "data": settings.data, "seed": 0, "features": "raw"}
    assert NodeClassification(dataset=Ring(), split="public", **rest).classes == 2
    assert LinkPrediction(dataset=Ring(), **rest).graph.nodes == NODES
    with pytest.raises(ValidationError, match="GraphDataset"):
        LinkPrediction(dataset=object(), **rest)
