"""Released checkpoints: what is read, and what is refused without being run."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.tasks.view_synthesis.checkpoints import load_released
from dfa_bench.tasks.view_synthesis.models import NeRF
from dfa_bench.tasks.view_synthesis.standin import stand_in_scene

SCENE = stand_in_scene()


def released_state(width: int, position: int = 63) -> dict[str, torch.Tensor]:
    """Weights under the names of the released code."""
    layers = {
        "layer1": nn.Linear(position, width),
        **{f"layers_xyz.{number}": nn.Linear(width, width) for number in range(3)},
        "fc_alpha": nn.Linear(width, 1),
        "fc_feat": nn.Linear(width, width),
        "layers_dir.0": nn.Linear(width + 27, width // 2),
        "fc_rgb": nn.Linear(width // 2, 3),
    }
    return {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}


def write(path: Path, coarse: dict, fine: dict, **more) -> Path:
    torch.save({"iter": 1, "model_coarse_state_dict": coarse, "model_fine_state_dict": fine, **more}, path)
    return path


def theirs(state: dict[str, torch.Tensor], points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The released network written anew, as PAPER.md describes it."""

    def encode(x: torch.Tensor, frequencies: int) -> torch.Tensor:
        return torch.cat([x] + [f(x * 2.0**k) for k in range(frequencies) for f in (torch.sin, torch.cos)], dim=-1)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    hidden = linear("layer1", encode(points, 10)).relu()
    for number in range(3):
        hidden = linear(f"layers_xyz.{number}", hidden).relu()
    feature = linear("fc_feat", hidden).relu()
    seen = linear("layers_dir.0", torch.cat([feature, encode(directions, 4)], dim=-1)).relu()
    return torch.cat([linear("fc_rgb", seen), linear("fc_alpha", hidden)], dim=-1)


@pytest.mark.parametrize("width", [16, 128, 256])
def test_a_released_model_computes_what_the_released_code_does(tmp_path, width):
    torch.manual_seed(0)
    coarse, fine = released_state(width), released_state(width)
    model = load_released(write(tmp_path / "a.ckpt", coarse, fine), SCENE)
    points, directions = torch.randn(5, 7, 3), nn.functional.normalize(torch.randn(5, 3), dim=-1)
    with torch.no_grad():
        for field, state in ((model.coarse, coarse), (model.fine, fine)):
            wanted = theirs(state, points, directions.unsqueeze(1).expand(-1, 7, -1))
            assert_close(field(points, directions), wanted)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path, how):
    path, trace = tmp_path / "bad.ckpt", tmp_path / "executed"
    content = {"model_coarse_state_dict": Bomb(trace), "model_fine_state_dict": released_state(16)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CorruptData, match="nothing in it was run"):
        load_released(path, SCENE)
    assert not trace.exists()


def test_widths_that_do_not_fit_together_are_told(tmp_path):
    with pytest.raises(CorruptData, match="4 layers of equal width"):
        load_released(write(tmp_path / "a.ckpt", released_state(16), released_state(32)), SCENE)
    with pytest.raises(CorruptData, match="4 layers of equal width"):
        load_released(write(tmp_path / "b.ckpt", released_state(16, 39), released_state(16, 39)), SCENE)
    missing = released_state(16)
    del missing["fc_rgb.bias"]
    with pytest.raises(CorruptData, match="4 layers of equal width"):
        load_released(write(tmp_path / "c.ckpt", missing, released_state(16)), SCENE)


def test_other_files_are_told(tmp_path):
    with pytest.raises(MissingData, match="does not exist"):
        load_released(tmp_path / "none.ckpt", SCENE)
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CorruptData):
        load_released(tmp_path / "text.ckpt", SCENE)
    whole = write(tmp_path / "a.ckpt", released_state(16), released_state(16)).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptData, match="truncated"):
        load_released(tmp_path / "cut.ckpt", SCENE)
    torch.save({"model": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CorruptData, match="no 'model_coarse_state_dict'"):
        load_released(tmp_path / "other.ckpt", SCENE)
    deep = released_state(16) | {"layers_xyz.3.weight": torch.zeros(16, 16)}
    with pytest.raises(CorruptData, match="layers_xyz.3"):
        load_released(write(tmp_path / "deep.ckpt", deep, deep), SCENE)


def test_the_authors_models_are_four_layers_of_128(real_data):
    """The finding of docs/view_synthesis.md: neither 8 layers nor 256 units, as their configuration files say."""
    paths = sorted((real_data / "nerf_checkpoints").glob("*.ckpt"))
    assert len(paths) == 6
    for path in paths:
        model = load_released(path, SCENE)
        assert isinstance(model, NeRF)
        for field in (model.coarse, model.fine):
            assert [layer.linear.out_features for layer in field.trunk] == [128] * 4
