"""No number gets into a cell that it is not of, whatever a user overrides."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import dfa_bench
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import plan
from dfa_bench.experiments.protocol import place, run_settings
from dfa_bench.experiments.schema import Experiment, load_experiments
from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.settings.compose import compose_settings
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import Component, RunSettings

RESULTS = Path(dfa_bench.__file__).parents[1] / "results"
EXPERIMENTS = load_experiments(resource_folder("experiments"))
TABLE3 = EXPERIMENTS["table3"]
ONE_CELL_A_RULE = TABLE3.model_copy(
    update={"rows": {"Cora": TABLE3.rows["Cora"]}, "columns": {"GraphConv": TABLE3.columns["GraphConv"]}, "claims": ()}
)
GROUPS = {path.name for path in resource_folder("configs").iterdir() if path.is_dir()} - {"hydra", "refinement"}


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every setting of the schema, as an override names it."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Component):
            found += [f"{prefix}{name}._target_", f"{prefix}{name}.name"]
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


ARGUMENTS = ["model.hidden", "model.dropout", "task.features", "task.split", "rule.shared", "feedback.0.points"]
VALUES = st.sampled_from(
    ["0", "1", "2", "0.5", "true", "null", "paper", "bp", "gat", "best", "last", "[dropout]", "cora"]
)
OVERRIDES = st.builds(
    lambda sign, key, value: f"{sign}{key}={value}",
    st.sampled_from(["", "+", "++"]),
    st.sampled_from([*keys(RunSettings), *ARGUMENTS, *sorted(GROUPS)]),
    VALUES,
)


def outcomes(experiment: Experiment, scale: str) -> dict:
    """What the cells come to by themselves, at a scale."""
    return {
        cell: outcome_settings(compose_settings([*cell.overrides, f"scale={scale}"])) for cell in experiment.cells()
    }


BY_THEMSELVES = {scale: outcomes(ONE_CELL_A_RULE, scale) for scale in ("cpu", "paper", "smoke")}


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=st.lists(OVERRIDES, min_size=1, max_size=2))
def test_a_cell_of_the_papers_table_holds_only_runs_of_its_own_outcome(overrides, tmp_path):
    try:
        runs = plan(ONE_CELL_A_RULE, range(1), [*overrides, f"data.cache={tmp_path}"])
    except ConfigError:
        return  # refused, with a sentence
    for run in runs:
        is_own = outcome_settings(run.settings) == BY_THEMSELVES[run.settings.scale][run.cell]
        assert run.changed == (not is_own)
        if run.settings.data.stand_in:
            assert run.settings.protocol == "reduced"


@pytest.mark.parametrize(
    "override", ["rule=bp", "model=gat", "+model=gat", "dataset=pubmed", "task=links", "variant=paper", "seed=3"]
)
def test_what_a_cell_sets_itself_is_refused(override):
    with pytest.raises(ConfigError, match=r"\w+ is set by this table|choose the seeds of a table with --seeds"):
        plan(TABLE3, range(1), [override])


@pytest.mark.parametrize(
    "choices, protocol",
    [
        (["task=nodes", "model=gcn", "dataset=cora", "rule=dfa"], "paper"),
        (["task=nodes", "model=gcn", "dataset=cora", "rule=fa"], "reduced"),  # a rule that no table of the paper has
        (["task=nodes", "model=gcn", "dataset=cora", "rule=fa", "recipe.of=bp"], "reduced"),
    ],
)
def test_only_what_a_table_of_the_paper_trains_has_the_papers_protocol(choices, protocol):
    assert run_settings(choices).protocol == protocol


def test_a_protocol_follows_from_the_settings_and_cannot_be_set():
    with pytest.raises(ConfigError, match="cannot be set"):
        plan(EXPERIMENTS["table2"], range(1), ["protocol=paper"])


@pytest.mark.parametrize(
    "override, changed",
    [
        ("recipe.lr=0.5", True),
        ("trainer.keep=last", True),
        ("recipe=gat", True),
        ("trainer.keep=best", False),  # as it is
        ("trainer.threads=1", False),
        ("store.root=elsewhere", False),
        ("scale=paper", False),
        ("logger=wandb", False),
        ("trainer.precision=bf16-mixed", False),  # numerics: recorded, and no run of the paper's protocol
    ],
)
def test_an_override_changes_a_place_if_it_changes_its_outcome(override, changed):
    placed = place(["task=nodes", "model=gcn", "dataset=cora", "rule=dfa"], [override])
    assert placed.changed == changed
    if not changed:
        assert (placed.settings.protocol == "paper") == ("precision" not in override)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("command", ["results", "table", "claims", "report"])
def test_no_command_writes_changed_settings_over_the_papers(command, say, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for path in [RESULTS / "runs.csv", *RESULTS.glob("table4*")]:
        shutil.copy(path, results)
    before = digests(results)
    _, out, err = say(command, "table4", "trainer.keep=best", f"results={results}", f"store.root={tmp_path}/runs")
    after = digests(results)
    assert {name: after[name] for name in before} == before
    assert all("-changed" in name for name in after.keys() - before.keys()), after.keys() - before.keys()
    assert re.search("(another|a different) experiment", out + err)
