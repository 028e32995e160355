"""The examples run, with few steps, and show what their first lines say."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest

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


def test_digits_by_every_rule(example):
    found = numbers(example("digits.py", 2, "perceptron"))
    assert len(found) == 9  # with the head
    assert found["BP"][0] > 30


def test_digits_by_convolutions():
    digits = runpy.run_path(str(EXAMPLES / "digits.py"))
    assert digits["accuracy"]("convolutional", digits["DirectFeedback"](), 3) > 0.2


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
