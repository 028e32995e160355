"""Checkpoints: what is read back, and from which file."""

import pytest
import torch
from torch import nn

from dfa_bench.errors import RecordError
from dfa_bench.runs.record import Record
from dfa_bench.settings.schema import RecipeSettings
from dfa_bench.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from dfa_bench.training.optimizer import build_optimizer


def test_what_was_saved_is_put_back(tmp_path):
    saved, loaded = nn.Linear(2, 3), nn.Linear(2, 3)
    state = RunState(epoch=4, metrics={"train/loss": 0.5}, best=0.5, best_weights={"weight": torch.ones(2)})
    save_checkpoint(Record(tmp_path), "a", state, {"model": saved})
    back = load_checkpoint(Record(tmp_path), "a", {"model": loaded})
    assert torch.equal(back.best_weights.pop("weight"), state.best_weights.pop("weight"))
    assert back == state
    assert torch.equal(saved.weight, loaded.weight)


def test_a_checkpoint_of_another_device_does_not_choose_how_adam_is_computed():
    weight = torch.nn.Parameter(torch.ones(3))
    model = torch.nn.ParameterList([weight])
    slow, fused = (build_optimizer(model, RecipeSettings(lr=0.1), fused=fused) for fused in (False, True))
    weight.sum().backward()
    slow.step()
    for mine, given in ((fused, slow), (slow, fused)):
        before = mine.param_groups[0]["fused"]
        mine.load_state_dict(given.state_dict())
        assert mine.param_groups[0]["fused"] == before
        mine.step()


def test_without_a_checkpoint_a_run_is_at_its_start(tmp_path):
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    assert load_checkpoint(Record(tmp_path), "a", {"model": model}) == RunState()
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
    state = load_checkpoint(Record(tmp_path), "a", {"model": model})
    assert (state.epoch, state.steps, state.metrics["train/loss"], state.best_epoch) == (7, 70, 0.25, 1)
    assert torch.equal(model.weight, torch.ones(3, 2))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path, capsys, place):
    record, model = Record(tmp_path), nn.Linear(20, 30)
    path = record.checkpoint
    first = model.weight.detach().clone()
    save_checkpoint(record, "a", RunState(epoch=1), {"model": model})
    nn.init.zeros_(model.weight)
    save_checkpoint(record, "a", RunState(epoch=2), {"model": model})
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)
    assert load_checkpoint(record, "a", {"model": model}).epoch == 1
    assert torch.equal(model.weight, first)
    assert "Continuing from the checkpoint before it" in capsys.readouterr().err
    save_checkpoint(record, "a", RunState(epoch=3), {"model": model})
    path.unlink()
    assert load_checkpoint(record, "a", {"model": model}).epoch == 1, "the damaged one is not kept"


def test_damaged_checkpoints_only_are_told(tmp_path):
    record = Record(tmp_path)
    for each in (record.checkpoint, record.previous_checkpoint):
        each.write_bytes(b"no checkpoint")
    with pytest.raises(RecordError, match="is damaged. Delete it"):
        load_checkpoint(record, "a", {})
