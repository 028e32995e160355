"""The command line, as its users type it."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest

from dfa_bench.cli import main
from dfa_bench.compose import compose_run, resource_folder, settings_of
from dfa_bench.data.resolve import Files, find
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.reporting.experiment import load_experiments
from dfa_bench.reporting.tables import CSV_COLUMNS, Run, Table
from dfa_bench.settings import DataSettings


@pytest.fixture
def dfa_bench(monkeypatch, tmp_path, capsys):
    """Types a command; returns exit status, standard output and standard error."""

    def type_in(*arguments: str):
        monkeypatch.setattr("sys.argv", ["dfa-bench", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    monkeypatch.chdir(tmp_path)
    return type_in


def test_the_last_line_of_a_run_is_its_record(dfa_bench):
    status, out, _ = dfa_bench("run", "scale=smoke")
    result = json.loads((Path(out.splitlines()[-1]) / "result.json").read_text())
    assert status == 0
    assert {"metrics", "cost", "protocol", "provenance"} <= set(result)
    assert "STAND-IN" in out


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.dropout=1.5", "model.dropout=1.5: input should be less than 1"),
        ("recipe.lr=-1", "recipe.lr=-1: input should be greater than 0"),
        ("recipe.lr=abc", "recipe.lr=abc: input should be a valid number"),
        ("model=gae", "model=gae does not go with task=nodes"),
        ("model.hiden=5", "hiden"),
        ("model=nerf", "nerf"),
    ],
)
def test_a_bad_setting_is_one_sentence(dfa_bench, override, message):
    status, _, err = dfa_bench("run", "scale=smoke", override)
    assert status != 0
    assert message in err
    assert "Traceback" not in err


def test_a_failing_run_of_a_sweep_is_named_and_stops_no_other(dfa_bench):
    status, out, _ = dfa_bench("run", "-m", "scale=smoke", "model.dropout=0.1,1.5,0.2")
    assert status == 1
    assert "2 of 3 runs are done." in out
    assert "Failed: dfa-bench run scale=smoke model.dropout=1.5" in out
    _, again, _ = dfa_bench("run", "-m", "scale=smoke", "model.dropout=0.1,0.2")
    assert again.count("Done before") == 2


def test_help_lists_groups_and_examples(dfa_bench):
    _, out, _ = dfa_bench("run", "--help")
    assert out.count("  dfa-bench run ") >= 3
    assert "recipe" in out
    assert "dataset: citeseer, cora, pubmed" in out


def test_a_changed_hyperparameter_leaves_the_papers_protocol():
    assert settings_of(compose_run([])).protocol == "paper"
    assert settings_of(compose_run(["seed=7", "store.root=elsewhere"])).protocol == "paper"
    assert settings_of(compose_run(["recipe.lr=0.02"])).protocol == "reduced"


def test_a_table_on_stand_ins_is_shown_apart_and_done_once(dfa_bench):
    status, out, _ = dfa_bench("reproduce", "table4", "scale=smoke", "jobs=2")
    assert status == 0
    assert "STAND-IN DATA" in out
    assert not Path("results").exists()
    assert "0 of them to do" in dfa_bench("reproduce", "table4", "scale=smoke")[1]


@pytest.mark.parametrize("arguments", [["table9"], ["table3", "seeds=0"], ["table3", "skip=Cora/Nothing"]])
def test_a_bad_request_for_a_table_is_refused(dfa_bench, arguments):
    status, _, err = dfa_bench("reproduce", *arguments)
    assert status == 2
    assert err.startswith("Error: ")


def test_the_papers_numbers_stand_in_the_experiments():
    tables = load_experiments(resource_folder("experiments"))
    assert tables["table3"].paper["accuracy"]["CiteSeer"]["GATConv"] == {"bp": 72.0, "dfa": 71.2}
    assert tables["table3"].paper["accuracy"]["PubMed"]["DNAConv"] == {"bp": 87.2, "dfa": 79.9}
    assert tables["table4"].paper["ap"]["CiteSeer"]["GAE"] == {"bp": 0.895, "dfa": 0.889}


def _table(stand_in: bool) -> Table:
    experiment = load_experiments(resource_folder("experiments"))["table3"]
    cells = [c for c in experiment.cells() if (c.row, c.column) == ("Cora", "GraphConv") and c.rule in ("bp", "dfa")]
    values = {"bp": [0.80, 0.82], "dfa": [0.79]}
    runs = {
        cell: [
            Run(f"{cell.rule}{seed}", seed, {"test/accuracy": value}, "cpu", "paper", "real", None)
            for seed, value in enumerate(values[cell.rule])
        ]
        for cell in cells
    }
    runs[cells[0]].append(Run("diverged", 2, {}, "cpu", "paper", "real", None))
    return Table(experiment, runs, stand_in)


def test_a_cell_is_mean_spread_seeds_paper_and_difference():
    text = _table(stand_in=False).markdown()
    assert "81.0 ± 1.4 (n=2), 1 diverged<br>paper 80.1, +0.9" in text
    assert "**79.0 (n=1)**<br>paper 79.9, -0.9" in text
    rows = _table(stand_in=False).csv().splitlines()
    assert rows[0] == ",".join(CSV_COLUMNS)
    assert rows[1] == "table3,Cora,GraphConv,bp,released,accuracy,81.0,1.414214,2,80.1,cpu,paper"


def test_no_number_of_the_paper_stands_beside_a_stand_in():
    text = _table(stand_in=True).markdown()
    assert "80.1" not in text
    assert "Cora (stand-in)" in text


@pytest.fixture
def served(tmp_path):
    """A folder on a local web server, and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


HELLO = {"a": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}  # sha256 of "hello"


def test_missing_files_are_downloaded_once_into_the_cache(served, tmp_path):
    folder, url = served
    (folder / "a").write_text("hello")
    data = DataSettings(root=str(tmp_path / "root"), cache=str(tmp_path / "cache"))
    files = Files("Set", "set/raw", HELLO, url)
    assert find(files, data) == tmp_path / "cache" / "set" / "raw"
    (folder / "a").unlink()
    assert find(files, data) == tmp_path / "cache" / "set" / "raw"
    assert not (tmp_path / "root").exists()


def test_a_download_that_is_not_the_official_file_is_refused(served, tmp_path):
    folder, url = served
    (folder / "a").write_text("something else")
    with pytest.raises(MissingData, match="hash"):
        find(Files("Set", "set", HELLO, url), DataSettings(cache=str(tmp_path / "cache")))
    assert not (tmp_path / "cache" / "set" / "a").exists()


def test_without_network_the_message_says_where_to_put_the_files(tmp_path):
    data = DataSettings(root=str(tmp_path / "root"), cache=str(tmp_path / "cache"))
    with pytest.raises(MissingData, match=r"root/set and in .*cache/set.*DIR/set.*DFA_BENCH_DATA"):
        find(Files("Set", "set", HELLO, "http://127.0.0.1:9"), data)


def test_a_truncated_or_missing_raw_file_is_named(real_data, tmp_path):
    raw = tmp_path / "planetoid" / "Cora" / "raw"
    shutil.copytree(real_data / "planetoid" / "Cora" / "raw", raw)
    settings = settings_of(compose_run([f"data.root={tmp_path}"]))
    from dfa_bench.tasks.base import build_dataset

    (raw / "ind.cora.x").write_bytes((raw / "ind.cora.x").read_bytes()[:100])
    with pytest.raises(CorruptData, match=r"ind\.cora\.x is not the official file.*100 bytes"):
        build_dataset(settings).fetch(settings.data)
    (raw / "ind.cora.x").unlink()
    with pytest.raises(CorruptData, match=r"ind\.cora\.x is missing"):
        build_dataset(settings).fetch(settings.data)
