"""Planetoid's pickles are read as data, and never executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch_geometric.io import read_planetoid_data

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.graphs.planetoid_files import MATRICES, read_planetoid

NAMES = [*MATRICES, "graph"]


@pytest.mark.parametrize("name", ["Cora", "CiteSeer", "PubMed"])
@pytest.mark.filterwarnings("ignore")  # SciPy's and NumPy's about pickles of 2016
def test_the_graph_is_that_of_pyg(real_data, name):
    folder = real_data / "planetoid" / name / "raw"
    ours, theirs = read_planetoid(folder, name.lower()), read_planetoid_data(str(folder), name.lower())
    assert torch.equal(ours.features, theirs.x)
    assert torch.equal(ours.edge_index, theirs.edge_index)
    assert torch.equal(ours.labels, theirs.y)
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(ours, split), theirs[f"{split}_mask"].nonzero().flatten())


class Hostile:
    """Pickled, it asks its reader to call a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, pickle.loads, Path])
def test_a_malicious_file_is_refused_and_executes_nothing(tmp_path, function):
    mark = tmp_path / "executed"
    command = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    for name in NAMES:
        with (tmp_path / f"ind.cora.{name}").open("wb") as file:
            pickle.dump(Hostile(function, command), file, protocol=2)
    with pytest.raises(CorruptData, match="which is not data"):
        read_planetoid(tmp_path, "cora")
    assert not mark.exists()


def test_a_damaged_file_is_told(tmp_path):
    for name in NAMES:
        (tmp_path / f"ind.cora.{name}").write_bytes(b"\x80\x02]q")
    with pytest.raises(CorruptData, match="cannot be read as data"):
        read_planetoid(tmp_path, "cora")
