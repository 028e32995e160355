"""The paper's number among our seeds."""

import pytest

from dfa_bench.experiments.schema import load_experiments
from dfa_bench.reporting.seeds import among_seeds, among_seeds_grid
from dfa_bench.reporting.tables import Table
from dfa_bench.settings.resources import resource_folder
from tests.runs.summaries import summary

TABLE3 = load_experiments(resource_folder("experiments"))["table3"]


def _table(rule, values, variants=("released",), protocol="paper", column="DNAConv"):
    cells = [
        cell
        for cell in TABLE3.cells()
        if (cell.row, cell.column, cell.rule) == ("Cora", column, rule) and cell.variant in variants
    ]
    runs = [
        summary(f"{rule}{seed}", seed, {"test/accuracy": value}, protocol=protocol) for seed, value in enumerate(values)
    ]
    return Table(TABLE3, dict.fromkeys(cells, runs))


@pytest.mark.parametrize(
    "values, side, reached",  # the paper has 82.9
    [
        ((0.80, 0.84, 0.82), "among the seeds", "1 of 3"),
        ((0.80, 0.81, 0.82), "above all seeds", "0 of 3"),
        ((0.83, 0.84, 0.85), "below all seeds", "3 of 3"),
    ],
)
def test_the_papers_number_lies_among_above_or_below_the_seeds(values, side, reached):
    (standing,) = among_seeds(_table("dfa", values))
    assert standing.side == side
    assert reached in [cell.text for cell in standing.line()]


def test_the_distance_is_in_standard_deviations_of_the_seeds():
    (standing,) = among_seeds(_table("dfa", (0.80, 0.81, 0.82)))
    assert standing.deviations == pytest.approx(1.9)  # (82.9 - 81) / 1
    (constant,) = among_seeds(_table("dfa", (0.80, 0.80, 0.80)))
    assert constant.deviations is None


def test_runs_that_stand_in_two_columns_count_once():
    assert len(among_seeds(_table("bp", (0.80, 0.81, 0.82), variants=("released", "paper")))) == 1


def test_few_seeds_other_protocols_and_cells_without_a_number_are_left_out():
    assert among_seeds(_table("dfa", (0.80, 0.81))) == []
    assert among_seeds(_table("dfa", (0.80, 0.81, 0.82), protocol="reduced")) == []
    assert among_seeds(_table("shallow", (0.80, 0.81, 0.82))) == []


def test_a_lean_to_good_seeds_is_counted_by_rule():
    text = " ".join(among_seeds_grid(among_seeds(_table("dfa", (0.80, 0.81, 0.82)))).notes)
    assert "Of 1 comparison 0 find the paper among our seeds, 1 above all of them and 0 below." in text
    assert "DFA: above our mean in 1 of 1, by +1.9 std in the median." in text
    assert "BP:" not in text
