"""The examples run, with few steps, and show what their first lines say."""

import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch, capsys, tmp_path):
    """Run an example in this process; returns what it prints."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setenv("MPLBACKEND", "agg")
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(text):
    """The first number behind each line's name, and the names."""
    found = [re.match(r"(\S.*?) {2,}(.*)", line) for line in text.splitlines()]
    return {
        line[1]: [float(word.strip("%")) for word in line[2].split() if word[0].isdigit()] for line in found if line
    }


def test_a_model_of_your_own(example):
    assert float(example("own_model.py").split()[-1]) > 0.95


def test_alignment_is_plotted_and_rises(example, tmp_path):
    printed = example("alignment_plot.py")
    for first, last in re.findall(r"(-?\d\.\d+) -> (-?\d\.\d+)", printed):
        assert abs(float(first)) < 0.2 < float(last)
    assert (tmp_path / "alignment.png").stat().st_size > 10_000


def test_the_notebook_shows_what_it_says(monkeypatch):
    """Its cells run here, in one process: a Jupyter kernel would be 25 packages more."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    cells = json.loads((EXAMPLES / "idea.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), shown)  # noqa: S102  the notebook is ours
    last = {name: accuracies[-1] for name, (accuracies, _) in shown["curves"].items()}
    assert last["shallow"] + 0.05 < last["DFA"]
    for cosines in shown["curves"]["DFA"][1].values():
        assert abs(cosines[0]) < 0.1
        assert cosines[-1] > 0.3
    accuracy = {name: accuracies[-1] for name, (accuracies, _) in shown["convolved"].items()}
    assert accuracy["DFA"] < 0.4 < accuracy["BP"]
    assert all(abs(cosine) < 0.15 for cosines in shown["convolved"]["DFA"][1].values() for cosine in cosines)
    saved = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in saved) == 3  # what a reader sees without running it


def test_digits_by_every_rule(example):
    found = numbers(example("digits.py", 2, "perceptron"))
    assert len(found) == 9  # with the head
    assert found["BP"][0] > 30


def test_digits_by_convolutions():
    """The failure is shown, not only told: by BP the pooled network learns in as many epochs."""
    digits = runpy.run_path(str(EXAMPLES / "digits.py"))
    accuracy, dfa = digits["accuracy"], digits["DirectFeedback"]()
    assert accuracy("strided", dfa, 3) > 0.5
    assert accuracy("pooled", dfa, 5) < 0.3 < accuracy("pooled", digits["Backprop"](), 5)


def test_a_sampled_graph(example):
    found = numbers(example("graph_sage.py", 6))
    assert found["DFA along edges"] > found["shallow"]


def test_a_physics_informed_network(example):
    found = numbers(example("physics_informed.py", 300))
    assert found["DFA, finite differences"][0] < 0.1 < found["DFA, automatic differentiation"][0]


def test_a_pre_norm_language_model():
    shown = runpy.run_path(str(EXAMPLES / "pre_norm_language_model.py"))
    stream = {name: shown["train"](*shown["RULES"][name], 3e-3, 25)[1] for name in ("DFA", "DFA, normalised")}
    assert stream["DFA"] > 3 * stream["DFA, normalised"]


@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is not installed")
def test_hugging_faces_trainer(example):
    printed = example("hugging_face.py", 4)
    assert "points=['transformer.h.*'], error_at='lm_head'" in printed
    assert re.search(r"transformer\.h\.0\.attn\.c_attn\.weight +feedback .*not seen", printed)
