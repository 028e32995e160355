"""Checkpoints: what is read back, and from which file."""

import torch
from torch import nn

from dfa_bench.training.checkpoint import RunState, load_checkpoint, save_checkpoint


def test_what_was_saved_is_put_back(tmp_path):
    saved, loaded = nn.Linear(2, 3), nn.Linear(2, 3)
    state = RunState(epoch=4, metrics={"train/loss": 0.5}, best=0.5, best_weights={"weight": torch.ones(2)})
    save_checkpoint(tmp_path / "checkpoint.pt", "a", state, {"model": saved})
    back = load_checkpoint(tmp_path / "checkpoint.pt", "a", {"model": loaded})
    assert torch.equal(back.best_weights.pop("weight"), state.best_weights.pop("weight"))
    assert back == state
    assert torch.equal(saved.weight, loaded.weight)


def test_without_a_checkpoint_a_run_is_at_its_start(tmp_path):
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    assert load_checkpoint(tmp_path / "checkpoint.pt", "a", {"model": model}) == RunState()
    assert torch.equal(model.weight, before)


def test_the_first_form_of_a_checkpoint_can_still_be_read(tmp_path):
    model = nn.Linear(2, 3)
    progress = {
        "epoch": 7,
        "steps": 70,
        "wall_seconds": 1.5,
        "step_seconds": 1.0,
        "peak_memory_mib": 300.0,
        "metrics": {"train/loss": 0.25, "val/accuracy": 0.5},
        "best": 0.5,
        "best_epoch": 1,
        "best_metrics": {"val/accuracy": 0.5},
        "best_weights": None,
    }
    weights = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    torch.save({"identity": "a", "progress": progress, "model": weights}, tmp_path / "checkpoint.pt")
    state = load_checkpoint(tmp_path / "checkpoint.pt", "a", {"model": model})
    assert (state.epoch, state.steps, state.metrics["train/loss"], state.best_epoch) == (7, 70, 0.25, 1)
    assert torch.equal(model.weight, torch.ones(3, 2))
