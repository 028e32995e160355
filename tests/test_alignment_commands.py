"""`dfa-bench align` and `figure alignment`: what they print and write, and what they refuse."""

import json

import pytest
import torch

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.figures import alignment as alignment_figure
from dfa_bench.reporting.figures.alignment import load_subjects, over_training
from dfa_bench.runs.record import Record
from dfa_bench.training.execute import Outcome, execute


@pytest.fixture
def finished(smoke) -> Outcome:
    return execute(smoke("rule=dfa", "trainer.max_epochs=3", "trainer.alignment_every=3"))


def test_a_finished_run_is_measured_and_written(say, finished, tmp_path):
    file = tmp_path / "out" / "gcn.json"
    code, out, _ = say("align", finished.folder, "--json", file)
    assert code == 0
    written = json.loads(file.read_text())
    assert (written["identity"], written["rule"], written["data"]) == (finished.result.identity, "dfa", "stand-in")
    assert list(written["paper"]) == ["conv1", "activation", "dropout", "conv2", "log_probabilities"]
    assert list(written["weights"]) == ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
    assert written["paper"]["conv2"]["mean"] == pytest.approx(1, abs=1e-5)
    hidden = written["paper"]["dropout"]
    assert 0 < hidden["rows"] <= hidden["of"]
    (line,) = [line for line in out.splitlines() if "│ dropout" in line]
    assert "point" in line
    untrained = written["untrained"]["paper"]["dropout"]["mean"]
    assert f"{hidden['mean']:+.3f} ± {hidden['std']:.3f} │ {untrained:+.3f} " in " ".join(line.split())
    assert untrained == pytest.approx(Record(finished.folder).read_metrics()[0]["alignment/dropout"], abs=1e-5)
    again = tmp_path / "again.json"
    say("align", finished.folder, "--json", again)
    assert again.read_text() == file.read_text()


def test_the_matrices_of_the_run_are_used(say, finished, tmp_path):
    """With another matrix at the same weights the hidden layer aligns otherwise."""
    files = [tmp_path / "own.json", tmp_path / "other.json"]
    say("align", finished.folder, "--json", files[0])
    path = Record(finished.folder).model
    parts = torch.load(path)
    parts["attachment"]["routes.0.matrix"].neg_()
    torch.save(parts, path)
    say("align", finished.folder, "--json", files[1])
    own, other = (json.loads(file.read_text())["weights"]["conv1.weight"]["cosine"] for file in files)
    assert own == pytest.approx(-other, abs=1e-5)


@pytest.mark.parametrize("rule", ["bp", "shallow"])
def test_a_run_of_another_rule_is_refused(say, smoke, rule):
    code, _, err = say("align", execute(smoke(f"rule={rule}")).folder)
    assert (code, "has no alignment. Give a run of rule=dfa or " in err) == (2, True)
    assert err.startswith("Error: ")


def test_what_is_no_finished_run_or_damaged_is_refused(say, smoke, finished, tmp_path):
    folder = finished.folder
    for wrong, told in (
        (tmp_path, "not the record of a finished run"),
        (folder / "nothing", "not the record of a finished run"),
    ):
        code, _, err = say("align", wrong)
        assert (code, told in err) == (2, True)
    result = (folder / "result.json").read_text()
    damages = [
        ("result.json", None, "is not finished"),
        ("result.json", result.replace('"finished"', '"diverged"', 1), "is damaged"),
        ("result.json", "{", "is damaged"),
        ("model.pt", "no tensors", "model.pt is damaged"),
        ("config.yaml", "a: [", "config.yaml is damaged"),
        ("config.yaml", "- a list", "config.yaml is damaged"),
    ]
    for name, text, told in damages:
        path = folder / name
        before = path.read_bytes()
        path.unlink()
        if text is not None:
            path.write_text(text)
        code, _, err = say("align", folder)
        assert (code, told in err, "Traceback" in err) == (2, True, False), (name, text, err)
        path.write_bytes(before)
    parts = torch.load(folder / "model.pt")
    parts["model"]["conv1.weight"] = torch.zeros(2, 2)
    torch.save(parts, folder / "model.pt")
    code, _, err = say("align", folder)
    assert (code, "does not fit the model" in err) == (2, True)
    assert say("align", folder, "--layers", "3")[0] == 2
    diverged = execute(smoke("model=gcn", "rule=dfa", "recipe.lr=1e30", "trainer.max_epochs=20")).folder
    code, _, err = say("align", diverged)
    assert (code, "not the record of a finished run" in err) == (2, True)


def test_the_figure_trains_what_lacks_alignment_and_draws_and_writes_it(say, smoke, tmp_path):
    plain = execute(smoke("model=gcn", "rule=dfa"))
    where = f"results={tmp_path / 'out'}", f"store.root={tmp_path / 'runs'}", "scale=smoke", "trainer.accelerator=cpu"
    code, _, err = say("figure", "alignment", "models=gcn,dna", "trainer.alignment_every=2", *where)
    assert code == 0, err
    assert "without alignment; run again" in err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"alignment-stand-in.{ending}" for ending in ("json", "png", "svg")]
    gcn, dna = json.loads((tmp_path / "out" / "alignment-stand-in.json").read_text())
    assert (gcn["identity"], gcn["data"], gcn["drawn"]) == (plain.result.identity, "stand-in", ["dropout"])
    assert dna["drawn"] == [*(f"activations.{number}" for number in range(5)), "activation"]
    curves = over_training(Record(plain.folder))
    assert list(gcn["modules"]) == list(curves)
    assert gcn["modules"]["dropout"]["epochs"] == [0, 2, 4]
    first = Record(plain.folder).read_metrics()[0]["alignment/dropout"]
    assert gcn["modules"]["dropout"]["mean"][0] == pytest.approx(first, abs=1e-4)
    svg = (tmp_path / "out" / "alignment-stand-in.svg").read_bytes()
    say("figure", "alignment", "models=gcn,dna", "trainer.alignment_every=2", *where)
    assert (tmp_path / "out" / "alignment-stand-in.svg").read_bytes() == svg


def test_a_panel_that_is_drawn_anew_leaves_the_others(say, tmp_path):
    where = f"results={tmp_path / 'out'}", f"store.root={tmp_path / 'runs'}", "scale=smoke", "trainer.accelerator=cpu"
    file = tmp_path / "out" / "alignment-stand-in.json"
    assert say("figure", "alignment", "models=gae", *where)[0] == 0
    (gae,) = json.loads(file.read_text())
    for seeds in (2, 2):  # what is drawn anew takes the place of what it was
        assert say("figure", "alignment", "models=gcn", "--seeds", seeds, *where)[0] == 0
        gcn, other, kept = json.loads(file.read_text())
        assert (gcn["panel"], kept) == ("GraphConv, Cora", gae)
        assert [(each["panel"], each["seed"]) for each in (gcn, other)] == [
            ("GraphConv, Cora", 0),
            ("GraphConv, Cora", 1),
        ]
    file.write_text("[1")
    code, _, err = say("figure", "alignment", "models=gcn", *where)
    assert (code, "is damaged" in err) == (2, True)


def test_a_panel_that_is_not_there_is_refused(say):
    code, _, err = say("figure", "alignment", "models=resnet")
    assert (code, "unknown panel 'resnet'. Panels: cheb, gcn," in err) == (2, True)


def test_a_panel_with_an_unknown_key_is_refused(monkeypatch, tmp_path):
    (tmp_path / "alignment.yaml").write_text("panels: {gcn: {title: GCN, run: [], layer: {hidden: dropout}}}\n")
    monkeypatch.setattr(alignment_figure, "resource_folder", lambda _: tmp_path)
    with pytest.raises(ConfigError, match=r"experiments/alignment\.yaml: .*panels.gcn.layers"):
        load_subjects()


def test_a_panel_with_more_kinds_of_layers_than_are_told_apart_is_refused(monkeypatch, tmp_path):
    layers = ", ".join(f"kind {number}: layer{number}" for number in range(6))
    (tmp_path / "alignment.yaml").write_text(f"panels: {{gcn: {{title: GCN, run: [], layers: {{{layers}}}}}}}\n")
    monkeypatch.setattr(alignment_figure, "resource_folder", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="at most 5 items"):
        load_subjects()


@pytest.mark.parametrize("name", load_subjects())
def test_every_panel_has_the_layers_that_it_names(say, tmp_path, name):
    where = f"results={tmp_path / 'out'}", f"store.root={tmp_path / 'runs'}", "scale=smoke", "trainer.accelerator=cpu"
    noise = ["model.density_noise=1.0"] if name == "nerf" else []  # see configs/scale/by_task
    sets_epochs = any(each.startswith("trainer.max_epochs") for each in load_subjects()[name].run)
    short = [] if sets_epochs else ["trainer.max_epochs=1"]
    assert say("figure", "alignment", f"models={name}", *short, *noise, *where)[0] == 0
    (panel,) = json.loads((tmp_path / "out" / "alignment-stand-in.json").read_text())
    assert len(panel["drawn"]) >= len(load_subjects()[name].layers)
