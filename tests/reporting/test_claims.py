"""Verdicts on what the paper concludes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dfa_bench.compose import resource_folder
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.claims import check, interval, markdown
from dfa_bench.reporting.experiment import Experiment, load_experiments
from dfa_bench.reporting.tables import Run, Table


def table(bp: list[float], dfa: list[float], shallow: list[float] = (), stand_in: bool = False, **claim) -> Table:
    """One cell with these accuracies, seed by seed, and one claim about it."""
    stated = {"id": "c", "says": "s", "metric": "accuracy", "higher": "dfa", "lower": "bp", **claim}
    experiment = Experiment(
        name="toy",
        title="Toy",
        metrics={"accuracy": {"key": "test/accuracy", "factor": 100}},
        rules=["bp", "dfa", "shallow"],
        rows={"Row": {}},
        columns={"Column": {}, "Other": {}},
        claims=[stated | {"columns": ["Column"]}],
    )
    values = {"bp": bp, "dfa": dfa, "shallow": shallow}
    runs = {
        cell: [
            Run(f"{cell}{seed}", seed, {"test/accuracy": value / 100}, "cpu", "paper", "real", None)
            for seed, value in enumerate(values[cell.rule])
        ]
        for cell in experiment.cells()
        if cell.column == "Column" or cell.rule == "bp"
    }
    return Table(experiment, runs, stand_in)


def verdict(*values, **claim) -> str:
    return check(table(*values, **claim))[0].verdict


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3), st.floats(0.5, 0.999)
)
def test_the_interval_is_that_of_the_one_sample_t_test(values, level):
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert interval(values, level) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_the_interval_decides():
    bp = [80.0, 81.0, 82.0]
    assert verdict(bp, [79.0, 80.1, 81.1], by=-2.5) == "supported"
    assert verdict(bp, [70.0, 71.1, 72.1], by=-2.5) == "not supported"
    assert verdict(bp, [77.5, 79.5, 78.5], by=-2.5) == "undecided"


def test_seeds_are_paired():
    spread = [60.0, 70.0, 80.0]  # far apart, but DFA is 1.0 to 1.1 lower on each of them
    assert verdict(spread, [59.0, 68.9, 79.0], by=-1.5) == "supported"
    assert verdict(spread, [79.0, 59.0, 68.9], by=-1.5) == "undecided"


def test_too_few_seeds_of_both_sides_or_stand_ins_test_nothing():
    assert verdict([80.0, 81.0, 82.0], [79.0, 80.0]) == "not tested"
    assert verdict([80.0, 81.0, 82.0], [89.0, 90.0, 91.1], stand_in=True) == "not tested"


def test_a_side_can_be_the_mean_of_several_or_of_another_column():
    halfway = {"lower": ["bp", "shallow"]}
    assert verdict([80.0, 81.0, 82.0], [65.0, 66.1, 67.0], [40.0, 41.0, 42.0], **halfway) == "supported"
    assert verdict([80.0, 81.0, 82.0], [55.0, 56.1, 57.0], [40.0, 41.0, 42.0], **halfway) == "not supported"
    assert verdict([80.0, 81.0, 82.0], [85.0, 86.1, 87.0], lower="bp @ Other") == "supported"


def test_a_claim_about_what_is_not_in_the_table_is_refused():
    with pytest.raises(ValueError, match=r"claims\.c: there is no Nowhere in the table"):
        table([], [], lower="bp @ Nowhere")


def test_the_ledger_shows_claim_verdict_and_evidence():
    text = markdown(check(table([80.0, 81.0, 82.0], [79.0, 80.1, 81.1], by=-2.5)))
    assert "| `c`: s | **supported** | 1 of 1 cells, 3 seeds; least: Row/Column -0.933" in text


def test_every_conclusion_of_the_shipped_experiments_has_a_name_of_its_own():
    claims = [claim.id for each in load_experiments(resource_folder("experiments")).values() for claim in each.claims]
    assert len(set(claims)) == len(claims) > 8


def test_a_mistake_in_an_experiment_names_the_file(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "x.yaml").write_text("title: x\n")
    with pytest.raises(ConfigError, match=r"experiments/studies/x\.yaml: The setting 'metrics' is missing"):
        load_experiments(tmp_path)
