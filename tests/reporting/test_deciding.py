"""Which seeds would decide most claims for the time that they take."""

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfa_bench.experiments.expected_cost import ExpectedCost
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import Cell, Experiment, load_experiment
from dfa_bench.reporting.claims import check, seeds_to_decide
from dfa_bench.reporting.deciding import Aim, in_order, next_step, open_aims
from dfa_bench.reporting.tables import Table
from dfa_bench.settings.resources import resource_folder
from tests.runs.summaries import summary

TABLE4 = load_experiment(resource_folder("experiments"), "table4")
LEANING = [-1.0, 0.0, 1.0, 2.0]
FALLING_SHORT = [-3.0, -1.0, 1.0, -2.0]
CLEAR = [5.0, 5.1, 5.2]


@pytest.fixture(scope="module")
def planned() -> list[PlannedRun]:
    """Many seeds of Table 4; of their settings only the seed and the protocol count here."""
    composed = run_settings(["task=links", "scale=smoke"])
    return [
        PlannedRun(cell, (), composed.model_copy(update={"seed": seed}), f"{cell}{seed}", changed=False)
        for cell in TABLE4.cells()
        for seed in range(60)
    ]


def table(claims: Sequence[Mapping[str, object]], differences: Mapping[str, Sequence[float]]) -> Table:
    """Table 4 with these claims; in each row DFA's AUC is above BP's by so much, seed by seed."""
    stated = [{"says": "s", "metric": "auc", "higher": "dfa", "lower": "bp", **claim} for claim in claims]
    experiment = Experiment.model_validate({**TABLE4.model_dump(exclude={"claims"}), "claims": stated})
    runs = {
        cell: [
            summary(f"{cell}{seed}", seed, {"test/auc": value if cell.rule == "dfa" else 0.0})
            for seed, value in enumerate(differences.get(cell.row, ()))
        ]
        for cell in experiment.cells()
    }
    return Table(experiment, runs)


def aims_of(
    found: Table, planned: Sequence[PlannedRun], why_not: Callable[[PlannedRun], str] = lambda run: ""
) -> tuple[list[Aim], dict[str, str]]:
    done = {(cell, run.seed) for cell, runs in found.runs.items() for run in runs}
    return open_aims(found, planned, lambda run: (run.cell, run.settings.seed) in done, why_not)


def seeds(aim: Aim, rule: str) -> list[tuple[str, int]]:
    return [(run.cell.row, run.settings.seed) for run in aim.runs if run.cell.rule == rule]


def test_a_step_brings_both_sides_to_the_seeds_that_would_decide(planned):
    found = table([{"id": "c", "rows": ["Cora"]}], {"Cora": LEANING})
    bp, dfa = (next(cell for cell in found.runs if (cell.row, cell.rule) == ("Cora", rule)) for rule in ("bp", "dfa"))
    found.runs[bp] += [summary(f"more{seed}", seed, {"test/auc": 0.0}) for seed in (4, 5)]  # which DFA lacks
    [aim], beyond = aims_of(found, planned)
    needed = seeds_to_decide(LEANING, 0, 1)
    assert (aim.claim, aim.places, aim.whole, aim.seeds, beyond) == ("c", ("Cora/GAE",), True, needed, {})
    assert seeds(aim, "dfa") == [("Cora", seed) for seed in range(4, needed)]
    assert seeds(aim, "bp") == [("Cora", seed) for seed in range(6, needed)]
    assert [run.settings.seed for run in aim.runs] == sorted(run.settings.seed for run in aim.runs)
    assert {run.cell for run in aim.runs} == {bp, dfa}


def test_one_place_that_falls_short_decides_and_the_others_are_only_places(planned):
    found = table([{"id": "c"}], {"Cora": LEANING, "CiteSeer": FALLING_SHORT, "PubMed": CLEAR})
    aims, _ = aims_of(found, planned)
    assert [(aim.places, aim.whole) for aim in aims] == [(("CiteSeer/GAE",), True), (("Cora/GAE",), False)]


def test_if_no_place_falls_short_all_that_are_open_have_to_be_decided(planned):
    other = [-1.0, 0.1, 1.0, 3.0]
    found = table([{"id": "c"}], {"Cora": LEANING, "CiteSeer": other, "PubMed": CLEAR})
    aims, _ = aims_of(found, planned)
    assert [(aim.places, aim.whole) for aim in aims] == [
        (("Cora/GAE", "CiteSeer/GAE"), True),
        (("Cora/GAE",), False),
        (("CiteSeer/GAE",), False),
    ]
    assert aims[0].identities == aims[1].identities | aims[2].identities
    assert aims[0].seeds == max(seeds_to_decide(each, 0, 3) for each in (LEANING, other))


def test_a_claim_that_is_not_tested_first_gets_the_seeds_of_a_test(planned):
    [aim], _ = aims_of(table([{"id": "c", "min_seeds": 4}], {"Cora": [1.0, 2.0]}), planned)
    assert (aim.whole, aim.seeds) == (True, 4)
    elsewhere = {(row, seed) for row in ("CiteSeer", "PubMed") for seed in range(4)}
    assert set(seeds(aim, "dfa")) == {("Cora", 2), ("Cora", 3), *elsewhere} == set(seeds(aim, "bp"))


def test_what_is_decided_needs_nothing(planned):
    assert aims_of(table([{"id": "c", "rows": ["Cora"]}], {"Cora": CLEAR}), planned) == ([], {})


def test_what_seeds_cannot_decide_says_why(planned):
    one = [{"id": "c", "rows": ["Cora"]}]
    assert aims_of(table(one, {"Cora": [-1.0, 0.0, 1.01]}), planned)[1] == {
        "c": "Cora/GAE: more than 100 seeds would decide"
    }
    found = table(one, {"Cora": CLEAR})
    dfa = next(cell for cell in found.runs if (cell.row, cell.rule) == ("Cora", "dfa"))
    found.runs[dfa].append(summary("d", 3, status="diverged"))
    assert "diverged" in aims_of(found, planned)[1]["c"]
    skipped = aims_of(table(one, {"Cora": LEANING}), planned, lambda run: "skipped")
    assert skipped == ([], {"c": "Cora/GAE: skipped"})
    few = [run for run in planned if run.settings.seed < 6]
    assert aims_of(table(one, {"Cora": LEANING}), few)[1] == {"c": "Cora/GAE: the table has no further seeds"}
    quoted = [{"id": "c", "rows": ["Cora"], "lower": {"value": 1, "says": "Theirs"}}]
    assert "reference only" in aims_of(table(quoted, {}), planned)[1]["c"]  # the plan is of a reduced protocol


def test_a_lost_seed_is_not_run_again(planned):
    found = table([{"id": "c", "rows": ["Cora"]}], {"Cora": FALLING_SHORT})
    dfa = next(cell for cell in found.runs if (cell.row, cell.rule) == ("Cora", "dfa"))
    bp = next(cell for cell in found.runs if (cell.row, cell.rule) == ("Cora", "bp"))
    found.runs[dfa].append(summary("d", 4, status="diverged"))
    found.runs[bp].append(summary("b", 4, {"test/auc": 0.0}))
    [aim], _ = aims_of(found, planned)
    assert min(run.settings.seed for run in aim.runs) == 5
    assert len(seeds(aim, "dfa")) == aim.seeds - 4


def costs_of(aims: Sequence[Aim], seconds: Callable[[Cell], float | None]) -> dict[str, ExpectedCost]:
    return {run.identity: ExpectedCost(seconds(run.cell), "") for aim in aims for run in aim.runs}


def test_the_claims_that_are_decided_for_the_least_time_come_first(planned):
    both = [{"id": "dear", "rows": ["PubMed"]}, {"id": "cheap", "rows": ["Cora"]}, {"id": "twin", "rows": ["Cora"]}]
    aims, _ = aims_of(table(both, {"PubMed": LEANING, "Cora": LEANING}), planned)
    costs = costs_of(aims, lambda cell: 50 if cell.row == "PubMed" else 40)  # two claims for 40 s a run, or one for 50
    first, second = in_order(aims, costs, 1e6)
    assert {first.aim.claim, *first.also} == {"cheap", "twin"}
    assert (second.aim.claim, second.also) == ("dear", ())
    assert next_step(aims, costs, first.seconds - 1) is None
    assert next_step(aims, costs_of(aims, lambda cell: None), 0.0) is not None  # unknown: it has to be tried


def test_places_of_claims_that_stay_open_come_after_claims(planned):
    claims = [{"id": "open"}, {"id": "dear", "rows": ["PubMed"]}]
    hopeless = [-1.0, 0.0, 0.99]
    aims, beyond = aims_of(table(claims, {"Cora": LEANING, "CiteSeer": hopeless, "PubMed": LEANING}), planned)
    assert list(beyond) == ["open"]
    steps = list(in_order(aims, costs_of(aims, lambda cell: 100 if cell.row == "PubMed" else 1), 1e6))
    assert [str(step.aim) for step in steps] == ["dear at PubMed/GAE", "open at Cora/GAE"]


@settings(max_examples=25)
@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=3), st.floats(0, 5000))
def test_no_run_is_done_twice_and_no_time_is_spent_that_is_not_there(planned, times, budget):
    claims = [{"id": "all"}, {"id": "two", "rows": ["Cora", "PubMed"]}, {"id": "more", "by": 0.2, "rows": ["Cora"]}]
    aims, _ = aims_of(table(claims, dict.fromkeys(TABLE4.rows, LEANING)), planned)
    time = dict(zip(TABLE4.rows, times, strict=True))
    steps = list(in_order(aims, costs_of(aims, lambda cell: time[cell.row]), budget))
    runs = [run.identity for step in steps for run in step.aim.runs]
    assert len(set(runs)) == len(runs)
    assert sum(step.seconds for step in steps) <= budget * (1 + 1e-9)


def test_a_table_over_stand_ins_or_with_changed_settings_has_nothing_to_decide(planned):
    found = table([{"id": "c"}], {"Cora": LEANING})
    for reason, other in (
        ("stand-in data", Table(found.experiment, found.runs, trial=True)),
        ("settings of your own", Table(found.experiment, found.runs, changed=True)),
    ):
        aims, beyond = aims_of(other, planned)
        assert aims == []
        assert reason in beyond["c"]
        assert check(other)[0].verdict == "not tested"
