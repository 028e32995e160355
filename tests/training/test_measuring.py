"""`trainer.alignment_every`: measured along training, which goes on as if nothing had been measured."""

import json
import math
from pathlib import Path

import pytest
import torch

from dfa_bench.runs.record import Record
from dfa_bench.training.execute import execute, run_identity
from tests.wandb_file import history, written

MODELS = {
    "gat": ["model=gat", "trainer.max_epochs=5"],  # dropout of features, hidden layer and attention
    "deepfm": ["task=clicks", "dataset=criteo", "model=deepfm", "trainer.max_epochs=2"],  # batch norm, dropout, a cut
    "lazy": ["task=clicks", "dataset=criteo", "model=autoint", "trainer.max_epochs=2", "recipe.optimizer=lazy_adam"],
    "nerf": [
        "task=view_synthesis",
        "dataset=lego",
        "model=nerf",
        "model.density_noise=1.0",
    ],  # two paths, random samples
}


def without_time(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def split(lines: list[dict[str, float]]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The metrics of each line, and its alignment."""
    plain = [{name: value for name, value in line.items() if not name.startswith("alignment")} for line in lines]
    aligned = [{name: value for name, value in line.items() if name.startswith("alignment")} for line in lines]
    return plain, aligned


@pytest.mark.parametrize("model", MODELS)
def test_training_is_the_same_with_and_without_by_the_last_bit(smoke, tmp_path, model):
    common = [*MODELS[model], "rule=dfa"]
    without = execute(smoke(*common, f"store.root={tmp_path / 'without'}"))
    measured = execute(smoke(*common, "trainer.alignment_every=1", f"store.root={tmp_path / 'with'}"))
    assert measured.result.identity == without.result.identity
    assert measured.result.metrics == without.result.metrics, "and alignment is none of a run's results"
    weights = [torch.load(Record(each.folder).model)["model"] for each in (without, measured)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    plain, aligned = split(without_time(measured.folder))
    assert plain == without_time(without.folder)
    for line in aligned:
        means = {name: value for name, value in line.items() if name.startswith("alignment/")}
        assert means
        assert all(-1 <= value <= 1 for value in means.values())
        assert any(math.isclose(value, 1, abs_tol=1e-5) for value in means.values()), "what is above the points"
        assert {name.replace("alignment/", "alignment_std/") for name in means} == line.keys() - means.keys()


def test_it_is_measured_at_the_initial_weights_and_then_every_n_epochs(smoke):
    outcome = execute(smoke("rule=dfa", "trainer.max_epochs=8", "trainer.alignment_every=3"))
    measured = [line["epoch"] for line in without_time(outcome.folder) if "alignment/activation" in line]
    assert measured == [1, 4, 7]


def test_a_resumed_run_measures_what_the_whole_one_measures(smoke, tmp_path):
    """Stopped by a metrics file that cannot be written; what the checkpoint has not seen is measured again."""
    options = ["rule=dfa", "trainer.max_epochs=12", "trainer.alignment_every=2", "trainer.checkpoint_seconds=0"]
    whole = execute(smoke(*options, f"store.root={tmp_path / 'whole'}"))
    settings = smoke(*options)
    key, _ = run_identity(settings)
    folder = tmp_path / "runs" / whole.folder.name
    assert folder.name.endswith(key)

    class Stopped(Exception):
        pass

    def stop(record: Record, line: dict[str, float]) -> None:
        if line["epoch"] == 6:
            raise Stopped
        append(record, line)

    append = Record.append_metrics
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "append_metrics", stop)
        with pytest.raises(Stopped):
            execute(settings)
    assert torch.load(folder / "checkpoint.pt")["progress"]["epoch"] == 5
    execute(settings)
    assert without_time(folder) == without_time(whole.folder)


def test_a_run_that_was_done_without_alignment_is_done_again_with_it(smoke, capsys):
    plain = execute(smoke("rule=dfa"))
    assert not Record(plain.folder).has_alignment()
    measured = execute(smoke("rule=dfa", "trainer.alignment_every=2"))
    assert (measured.reused, measured.folder) == (False, plain.folder)
    assert "without alignment; run again" in capsys.readouterr().err
    assert Record(plain.folder).has_alignment()
    assert measured.result.metrics == plain.result.metrics
    assert execute(smoke("rule=dfa", "trainer.alignment_every=2")).reused
    assert execute(smoke("rule=dfa")).reused


@pytest.mark.parametrize("rule", ["bp", "shallow"])
def test_other_rules_have_none_and_say_so(smoke, capsys, rule):
    outcome = execute(smoke(f"rule={rule}", "trainer.alignment_every=1"))
    assert f"no effect with rule={rule}" in capsys.readouterr().err
    assert not Record(outcome.folder).has_alignment()
    assert execute(smoke(f"rule={rule}", "trainer.alignment_every=1")).reused


def test_two_processes_measure_too_and_train_as_they_do_without(smoke, tmp_path):
    common = ["task=clicks", "rule=dfa", "trainer.devices=2", "trainer.max_epochs=3"]
    without = execute(smoke(*common, f"store.root={tmp_path / 'without'}"))
    measured = execute(smoke(*common, "trainer.alignment_every=2"))
    assert measured.result.metrics == without.result.metrics
    lines = without_time(measured.folder)
    assert [line["epoch"] for line in lines if any(key.startswith("alignment/") for key in line)] == [1, 3]


def test_wandb_gets_alignment(smoke):
    outcome = execute(smoke("rule=dfa", "logger=wandb", "logger.mode=offline", "trainer.alignment_every=1"))
    logged = {key for line in history(written(outcome.folder)) for key in line}
    assert {"alignment/activation", "alignment_std/activation"} <= logged
