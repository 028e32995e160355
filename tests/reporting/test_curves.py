"""What `dfa-bench curves` draws: lines, panels and axes."""

import dataclasses

import pytest

from dfa_bench.commands.curves import span_of_epoch
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import Experiment, load_experiments
from dfa_bench.reporting.figures.curves import Curve, draw_curves
from dfa_bench.settings.resources import resource_folder

FALLING = [(epoch * 500_000.0, 800.0 / epoch) for epoch in (1, 2, 4)]


@pytest.fixture(scope="module")
def table5() -> Experiment:
    return load_experiments(resource_folder("experiments"))["table5"]


def curve(panel: str, rule: str, label: str) -> Curve:
    return Curve(panel, rule, label, FALLING, stand_in=False)


def test_panels_of_a_cell_compare_the_rules_in_colours_of_their_own():
    shown = [
        curve("GCN", "dfa", "DFA"),
        curve("GAT", "bp", "BP"),
        curve("GAT", "dfa", "DFA"),
        curve("GAT", "dfa", "DFA"),
    ]
    gcn, gat = draw_curves(shown, "epochs", "val/accuracy", "Table 4").axes
    assert (gcn.get_title(), gcn.get_xlabel(), gat.get_title()) == ("GCN", "epochs", "GAT")
    dfa, bp = gcn.lines[0], gat.lines[0]
    assert dfa.get_color() == gat.lines[1].get_color() == gat.lines[2].get_color() != bp.get_color()
    assert dfa.get_linestyle() != bp.get_linestyle()
    assert gcn.get_legend() is None  # one for all panels is below them


def test_the_lowest_panel_of_a_column_has_the_numbers_of_its_axis():
    axes = draw_curves([curve(name, "bp", "BP") for name in "ABCDE"], "epochs", "val/accuracy", "Table 3").axes
    assert [axis.get_xlabel() for axis in axes] == ["", "", "epochs", "epochs", "epochs", ""]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in axes[:5]] == [False, False, True, True, True]


def test_a_panel_of_several_cells_names_each_of_them_once():
    shown = [curve("Macro", "dfa", "+ Adam"), curve("Macro", "dfa", "+ Adam"), curve("Macro", "bp", "BP baseline")]
    figure = draw_curves(shown, "training tokens", "val/perplexity", "Table 5", log=True)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["+ Adam", "BP baseline"]
    assert (axis.get_yscale(), axis.get_xlabel()) == ("log", "training tokens")
    assert list(zip(*axis.lines[0].get_data(), strict=True)) == FALLING
    figure.draw_without_rendering()
    assert "1M" in [label.get_text() for label in axis.get_xticklabels()]


def test_panels_of_generated_data_say_so_and_the_others_do_not():
    generated = [dataclasses.replace(curve(name, "bp", "BP"), stand_in=True) for name in ("A", "B (stand-in)")]
    axes = draw_curves([curve("Criteo", "bp", "BP"), *generated], "epochs", "val/auc", "A study").axes
    assert [axis.get_title() for axis in axes[:3]] == ["Criteo", "A (stand-in)", "B (stand-in)"]


def test_every_cell_of_table_5_is_in_a_panel(table5):
    for cell in table5.cells():
        assert any(panel.has(cell) for panel in table5.curves.panels.values()), cell


def test_an_epoch_has_the_tokens_of_its_steps(table5):
    settings = run_settings([*table5.overrides, "scale=cpu", "task.streams=5", "task.context=20"])
    assert span_of_epoch(table5, settings, steps=122) == 5 * 20 * 122
    wrong = table5.model_copy(update={"curves": table5.curves.model_copy(update={"per_step": ("task.words",)})})
    with pytest.raises(ConfigError, match=r"per_step: task\.words is not a number"):
        span_of_epoch(wrong, settings, steps=122)


def test_a_panel_of_what_is_not_in_the_table_is_refused(table5):
    values = table5.model_dump() | {"curves": {"panels": {"A": {"rows": ["Nano"]}}}}
    with pytest.raises(ValueError, match=r"curves\.panels\.A: the table has no Nano"):
        Experiment.model_validate(values)
