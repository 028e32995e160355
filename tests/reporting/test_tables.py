"""Tables: what a cell shows, and what never stands beside a paper's number."""

import pytest

from dfa_bench.experiments.plan import plan
from dfa_bench.experiments.schema import Experiment, load_experiments
from dfa_bench.reporting.forms import CSV_COLUMNS, files
from dfa_bench.reporting.tables import Head, Table, TableLine
from dfa_bench.settings.resources import resource_folder
from tests.runs.summaries import summary


def test_the_papers_numbers_stand_in_the_experiments():
    tables = load_experiments(resource_folder("experiments"))
    assert tables["table3"].paper["accuracy"]["CiteSeer"]["GATConv"] == {"bp": 72.0, "dfa": 71.2}
    assert tables["table3"].paper["accuracy"]["PubMed"]["DNAConv"] == {"bp": 87.2, "dfa": 79.9}
    assert tables["table4"].paper["ap"]["CiteSeer"]["GAE"] == {"bp": 0.895, "dfa": 0.889}


def _table(trial: bool) -> Table:
    experiment = load_experiments(resource_folder("experiments"))["table3"]
    cells = [c for c in experiment.cells() if (c.row, c.column) == ("Cora", "GraphConv") and c.rule in ("bp", "dfa")]
    values = {"bp": [0.80, 0.82], "dfa": [0.79]}
    runs = {
        cell: [
            summary(f"{cell.rule}{seed}", seed, {"test/accuracy": value})
            for seed, value in enumerate(values[cell.rule])
        ]
        for cell in cells
    }
    runs[cells[0]].append(summary("diverged", 2, status="diverged"))
    return Table(experiment, runs, trial)


def test_a_cell_is_mean_spread_seeds_paper_and_difference():
    text = files(_table(trial=False))[".md"]
    assert "81.0 ± 1.4 (n=2), 1 diverged<br>paper 80.1, +0.9" in text
    assert "**79.0 (n=1)**<br>paper 79.9, -0.9" in text
    rows = files(_table(trial=False))[".csv"].splitlines()
    assert rows[0] == ",".join(CSV_COLUMNS)
    assert rows[1] == "table3,Cora,GraphConv,bp,released,accuracy,81.0,1.414214,2,80.1,cpu,paper"


def test_printed_numbers_stand_beside_the_model_that_they_are_of():
    experiment = load_experiments(resource_folder("experiments"))["table2"]
    runs = {cell: [summary(str(cell), 0, {"test/auc": 0.75})] for cell in experiment.cells()}
    found = Table(experiment, runs)
    printed = {
        (cell.column, cell.variant, cell.rule): found.paper_text(entry, metric)
        for (cell, metric), entry in found.entries.items()
    }
    assert printed["DeepFM", "released", "dfa"] == "paper 0.7956, -0.0456"
    assert printed["DeepFM", "released", "shallow"] == "code 0.7920"
    assert printed["AutoInt", "released", "bp"] == "code 0.7937"
    assert {text for (_, variant, _), text in printed.items() if variant == "clean"} == {""}


def test_every_rule_that_is_compared_with_another_is_bold_where_it_is_near():
    values = {"rows": {"A": {}}, "columns": {"x": {}}, "metrics": {"m": {"key": "m", "bold_within": 0.1}}}
    head = {"name": "t", "kind": "paper", "title": "T"}
    experiment = Experiment.model_validate({**head, "rules": ["bp", "dfa", "fa", "shallow"], **values})
    means = {"bp": 0.8, "dfa": 0.5, "fa": 0.75, "shallow": 0.79}
    runs = {cell: [summary(cell.rule, metrics={"m": means[cell.rule]})] for cell in experiment.cells()}
    text = files(Table(experiment, runs))[".md"]
    assert "| FA | **0.750 (n=1)** |" in text
    assert text.count("**") == 2
    assert "DFA within 0.1 of BP. Bold, as in the paper: FA within 0.1 of BP." in text


@pytest.mark.parametrize("place", ["rules", "rows", "claims"])
def test_a_rule_that_does_not_exist_is_refused_and_those_that_do_are_named(place):
    values = {"kind": "paper", "title": "T", "rows": {"A": {}}, "columns": {"x": {}}, "metrics": {"m": {"key": "m"}}}
    values["rules"] = ["bp"]
    claim = {"id": "c", "says": "s", "metric": "m", "higher": "nope", "lower": "bp"}
    wrong = {"rules": ["nope"], "rows": {"A": {"rules": ["nope"]}}, "claims": [claim]}
    with pytest.raises(ValueError, match="unknown rule 'nope': choose one of bp, dfa, .*shallow"):
        Experiment.model_validate({"name": "t", **values, place: wrong[place]})


def test_no_number_of_the_paper_stands_beside_a_stand_in():
    text = files(_table(trial=True))[".md"]
    assert "80.1" not in text
    assert "Cora (stand-in)" in text


def test_rows_of_generated_data_are_marked_and_others_are_compared_with_the_paper():
    table = _table(trial=False)
    runs = {**table.runs}
    for cell in table.experiment.cells():
        if (cell.row, cell.column, cell.rule) == ("PubMed", "GraphConv", "bp"):
            runs[cell] = [summary("planted", metrics={"test/accuracy": 0.5}, data_kind="stand-in")]
    written = files(Table(table.experiment, runs))
    lines = written[".md"].splitlines()
    assert any(line.startswith("| PubMed (stand-in) | BP | 50.0 (n=1) |") for line in lines)
    assert any(line.startswith("| Cora | BP |") and "paper 80.1" in line for line in lines)
    assert "STAND-IN DATA" not in written[".md"]
    assert "table3,PubMed (stand-in),GraphConv,bp,released,accuracy,50.0,,1,," in written[".csv"]


def test_rows_and_columns_may_lack_cells():
    lines = {"rows": {"A": {"columns": ["x"]}, "B": {"rules": ["bp"]}}, "columns": {"x": {}, "y": {"rules": ["bp"]}}}
    sparse = Experiment.model_validate(
        {"name": "t", "kind": "paper", "title": "T", "metrics": {}, "rules": ["bp", "dfa"], **lines}
    )
    places = [(cell.row, cell.column, cell.rule) for cell in sparse.cells()]
    assert places == [("A", "x", "bp"), ("A", "x", "dfa"), ("B", "x", "bp"), ("B", "y", "bp")]


@pytest.mark.parametrize("row", [{"columns": ["z"]}, {"at": {"z": ["seed=1"]}}])
def test_a_row_of_columns_that_are_not_there_is_refused(row):
    with pytest.raises(ValueError, match=rf"rows\.A\.{next(iter(row))}: the table has no z"):
        Experiment.model_validate(
            {
                "name": "t",
                "kind": "paper",
                "title": "T",
                "metrics": {},
                "rules": ["bp"],
                "rows": {"A": row},
                "columns": {"x": {}},
            }
        )


def scenes_of_table_1(values: dict[str, list[float]], protocol: str = "paper") -> Table:
    """Table 1 with runs of 4x128 and DFA: for each scene PSNR by seed, where its mean colour alone gives 12."""
    experiment = load_experiments(resource_folder("experiments"))["table1"]
    runs = {
        cell: [
            summary(f"{cell.row}{seed}", seed, {"test/psnr": psnr, "test/psnr_mean_colour": 12.0}, protocol=protocol)
            for seed, psnr in enumerate(values[cell.row])
        ]
        for cell in experiment.cells()
        if (cell.column, cell.rule) == ("4x128", "dfa") and cell.row in values
    }
    return Table(experiment, runs)


SYNTHETIC, DFA = TableLine("NeRF-Synthetic", None), Head("4x128", "released", "psnr", "dfa")


def test_a_mean_over_all_its_rows_is_compared_seed_by_seed():
    scenes = load_experiments(resource_folder("experiments"))["table1"].rows["NeRF-Synthetic"].mean_of
    assert len(scenes) == 8
    table = scenes_of_table_1({name: [20.0 + number, 30.0] for number, name in enumerate(scenes)} | {"lego": [24.0]})
    mean = table.entry(SYNTHETIC, DFA)
    assert mean is not None
    assert (list(mean.values), mean.paper, mean.over) == ([23.5], 25.41, ())
    assert "| NeRF-Synthetic, mean | 23.50 (n=1)<br>paper 25.41, -1.91 |" in files(table)[".md"]


def test_a_mean_over_some_of_its_rows_says_which_and_is_not_compared():
    table = scenes_of_table_1({"lego": [20.0, 22.0], "chair": [30.0]})
    mean = table.entry(SYNTHETIC, DFA)
    assert mean is not None
    assert (list(mean.values), mean.paper, mean.over) == ([25.0], None, ("chair", "lego"))
    assert table.entry(TableLine("LLFF-Real", None), DFA) is None
    written = files(table)
    assert "| NeRF-Synthetic, mean | 25.00 (n=1), over chair, lego |" in written[".md"]
    assert "NeRF-Synthetic, mean of chair, lego" in written[".csv"]
    assert "25.41" not in "".join(written.values())


def test_rows_and_cells_without_runs_are_named():
    text = files(scenes_of_table_1({"lego": [20.0], "chair": [30.0]}))[".md"]
    assert "Without runs: chair 4x128 BP, chair 4x128 shallow," in text
    assert "drums, ficus, hotdog," in text


def test_runs_that_are_no_better_than_one_colour_are_counted():
    table = scenes_of_table_1({"lego": [20.0, 11.9, 12.0], "chair": [30.0, 29.0]})
    lego, chair = (table.cell_at(TableLine(scene, None), DFA) for scene in ("lego", "chair"))
    assert lego
    assert chair
    assert (table.collapsed(lego), table.is_bimodal(lego)) == (2, True)
    assert (table.collapsed(chair), table.is_bimodal(chair)) == (0, False)
    assert "14.63 ± 4.65 (n=3), 2 collapsed" in files(table)[".md"]
    assert not scenes_of_table_1({"lego": [11.0, 11.9]}).is_bimodal(lego)  # of one mode


def test_a_mean_of_what_has_no_runs_is_refused():
    values = load_experiments(resource_folder("experiments"))["table1"].model_dump()
    values["rows"]["LLFF-Real"]["mean_of"] = ("fern", "nothing", "NeRF-Synthetic")
    with pytest.raises(ValueError, match="rows.LLFF-Real.mean_of: nothing, NeRF-Synthetic"):
        Experiment.model_validate(values)


def test_a_search_keeps_its_budget_of_seeds():
    search = load_experiments(resource_folder("experiments"))["search/table2"]
    assert {run.settings.seed for run in plan(search, range(3), ["scale=smoke"])} == {0}


def test_numerics_that_differ_are_told_and_those_not_recorded_are_not():
    experiment = load_experiments(resource_folder("experiments"))["table3"]
    bp, dfa = [c for c in experiment.cells() if (c.row, c.column) == ("Cora", "GraphConv") and c.rule != "shallow"]

    def text(*numerics: str) -> str:
        ours, other, theirs = (
            summary(f"{seed}", seed, {"test/accuracy": 0.8}, numerics=each) for seed, each in enumerate(numerics)
        )
        return files(Table(experiment, {bp: [ours, other], dfa: [theirs]}))[".md"]

    assert "numerics" not in text("", "", "")
    assert "numerics" not in text("32-true, cpu", "", "32-true, cpu")
    assert "Runs differ in numerics, which may move digits: 32-true, cpu (2 runs); bf16-mixed, cuda (1 run)." in text(
        "32-true, cpu", "32-true, cpu", "bf16-mixed, cuda"
    )
