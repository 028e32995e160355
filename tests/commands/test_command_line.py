"""`dfa-bench`: what it prints, what it refuses and how, and what a sweep does when something goes wrong."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dfa_bench.commands.main import main
from dfa_bench.data import resolve
from dfa_bench.errors import MissingData, counted
from dfa_bench.experiments.plan import file_suffix
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.reporting.figures.embeddings import TSNE_SETTINGS
from dfa_bench.settings.resources import resource_folder
from tests.view_synthesis.scenes import write_blender

RUNS = resource_folder("experiments").parent / "results" / "runs.csv"
MODELS = {f"model={path.stem}" for path in (resource_folder("configs") / "model").glob("*.yaml")}


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def dfa_bench(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The command, in this process."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def command(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["dfa-bench", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        assert isinstance(end.value.code, int), end.value.code
        return Said(end.value.code, out, err)

    return command


@pytest.fixture
def run(dfa_bench: Callable[..., Said], tmp_path: Path) -> Callable[..., Said]:
    """`dfa-bench run` on the stand-in."""
    return lambda *overrides: dfa_bench(
        "run", "scale=smoke", "trainer.accelerator=cpu", f"store.root={tmp_path / 'runs'}", *overrides
    )


def records(tmp_path: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/result.json"))]


def test_the_last_line_of_a_run_is_the_folder_of_its_record(run):
    said = run("model=gcn", "rule=dfa", "seed=3")
    assert said.code == 0
    result = json.loads((Path(said.out.splitlines()[-1]) / "result.json").read_text())
    assert {"metrics", "wall_seconds", "protocol", "commit"} <= result.keys()
    assert {"test/accuracy", "val/accuracy"} <= result["metrics"].keys()
    assert (result["seed"], result["rule"], result["protocol"]) == (3, "dfa", "reduced")
    assert "STAND-IN DATA" in said.out


@pytest.mark.parametrize(
    "override, told",
    [
        ("model.dropout=1.5", "model.dropout=1.5"),
        ("recipe.lr=-1", "recipe.lr=-1"),
        ("recipe.lr=abc", "recipe.lr=abc"),
        ("recipe.lr=inf", "recipe.lr=inf"),
        ("rule.seed=-1", "rule.seed=-1"),
        ("model.hidden=0", "model.hidden=0"),
        ("task.split=half", "task.split=half"),
        ("task.features=none", "task.features=none"),
        ("trainer.keep=worst", "trainer.keep=worst"),
        ("trainer.alignment_every=0", "trainer.alignment_every=0"),
        ("trainer.precision=8-true", "trainer.precision=8-true"),
        ("trainer.foo=1", "'trainer.foo'"),
        ("+trainer.foo=1", "'trainer.foo'"),
        ("+model.foo=1", "'model.foo'"),
        ("+task.foo=1", "'task.foo'"),
        ("foo=1", "'foo'"),
        ("model=nope", "model can be afn, autoint, cheb, dcn, deepfm, dna, fm, gae, gat, gcn, nerf, spline"),
        ("logger=null", "takes the name of an option, not null or a number"),
        ("model=3", "takes the name of an option, not null or a number"),
        ("dataset=nope", "dataset can be blender, chair, citeseer, clicks_file, cora, criteo, drums, fern, "),
        ("dataset=graph", "The setting 'dataset.name' is missing"),
        ("dataset=lego", "dataset=lego does not fit task=nodes"),
        ("model=gae", "model=gae does not fit task=nodes"),
        ("nodes", "'nodes'"),
        ("model._target_=dfa_bench.nothing", "dfa_bench.nothing"),
        ("recipe.decay_only=[conv7.*]", "conv7.*"),
        ("feedback.0.points=[relu]", "the feedback point 'relu'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run, override, told, tmp_path):
    said = run(override)
    assert said.code != 0
    assert said.err.startswith("Error: ")
    assert told in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert records(tmp_path) == []


def test_a_store_below_a_file_is_told_in_a_sentence(dfa_bench, tmp_path):
    (tmp_path / "file").write_text("")
    for sweep in ([], ["-m", "seed=0,1"]):
        said = dfa_bench("run", "scale=smoke", f"store.root={tmp_path}/file/runs", *sweep)
        assert said.code != 0
        assert f"{tmp_path}/file/runs" in said.err
        assert "Not a directory" in said.err
        assert "Traceback" not in said.err


def test_a_failing_run_of_a_sweep_neither_stops_nor_hides_the_others(run, tmp_path):
    said = run("-m", "model=gcn,gae,gat", "seed=0,1")
    assert said.code == 1
    assert "4 of 6 runs are done." in said.out
    assert {(result["model"], result["seed"]) for result in records(tmp_path)} == {
        (model, seed) for model in ("gcn", "gat") for seed in (0, 1)
    }
    failed = [line for line in said.out.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 2
    assert all(line.startswith("Failed: dfa-bench run ") and "model=gae" in line for line in failed)
    assert "model=gae does not fit task=nodes" in said.out


def test_a_diverged_run_is_named_and_recorded(run, tmp_path):
    said = run("-m", "rule=bp", "recipe.lr=0.01,1e30")
    assert said.code == 1
    assert "1 of 2 runs are done." in said.out
    assert "Failed: dfa-bench run" in said.out
    assert "recipe.lr=1e+30" in said.out
    assert {result["status"] for result in records(tmp_path)} == {"finished", "diverged"}


def test_a_diverged_run_alone_ends_with_status_1(run):
    said = run("rule=bp", "recipe.lr=1e30")
    assert said.code == 1
    assert "The loss became" in said.err
    assert "Traceback" not in said.err


def test_the_same_sweep_again_does_nothing_anew(run, tmp_path):
    sweep = "-m", "rule=bp,dfa", "seed=0,1"
    assert run(*sweep).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}
    said = run(*sweep)
    assert said.out.count("Done before") == 4
    assert "4 of 4 runs are done." in said.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")} == before


def test_a_sweep_runs_in_parallel_through_joblib(run, tmp_path):
    said = run("-m", "rule=bp,dfa", "model=gcn,gae", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert said.code == 1
    assert "2 of 4 runs are done." in said.out
    assert {result["rule"] for result in records(tmp_path)} == {"bp", "dfa"}
    assert said.out.count("Failed: ") == 2


def test_a_sweep_that_is_interrupted_keeps_what_is_finished_and_goes_on(run, tmp_path):
    """SIGINT as soon as the first run has printed its folder; the next one would take hours."""
    overrides = "scale=smoke", "rule=bp", f"store.root={tmp_path / 'runs'}", "-m", "trainer.max_epochs=2,1000000"
    command = [sys.executable, "-u", "-m", "dfa_bench", "run", *overrides]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith(str(tmp_path)):
                break
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait() == 130
    assert "Interrupted" in told
    assert "Traceback" not in told
    assert [result["epochs"] for result in records(tmp_path)] == [2]
    said = run("rule=bp", "-m", "trainer.max_epochs=2,3")
    assert said.out.count("Done before") == 1
    assert "2 of 2 runs are done." in said.out


def test_a_reproduction_that_is_interrupted_keeps_what_is_finished_and_goes_on(dfa_bench, tmp_path):
    """Ctrl-C as soon as the first record is there; as in a shell, it goes to the worker processes too."""
    where = f"store.root={tmp_path / 'runs'}", f"results={tmp_path / 'results'}"
    few = "jobs=1", "skip=CiteSeer/*,PubMed/*", "trainer.threads=1", "trainer.max_epochs=200"
    arguments = "reproduce", "table4", "scale=smoke", *few, *where
    command = [sys.executable, "-m", "dfa_bench", *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        assert process.stderr is not None
        while not records(tmp_path):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            assert process.returncode is None
        os.killpg(process.pid, signal.SIGINT)
        told = process.stderr.read()
        assert process.wait() == 130
    assert "Interrupted" in told
    assert "Traceback" not in told
    kept = len(records(tmp_path))
    assert 1 <= kept < 3
    said = dfa_bench(*arguments)
    assert said.code == 0
    assert f"{counted(3 - kept, 'run')} to do, {kept} done, 6 skipped" in said.out


@pytest.mark.parametrize(
    "command",
    [
        ["reproduce", "table4", "jobs=2", "results=results"],
        ["run", "-m", "task=links", "rule=bp,dfa", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    ],
)
def test_no_worker_outlives_a_command_that_is_killed(tmp_path, command):
    endless = "scale=smoke", "trainer.threads=1", "trainer.max_epochs=1000000", f"store.root={tmp_path / 'runs'}"
    command = [sys.executable, "-m", "dfa_bench", *command, *endless]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, cwd=tmp_path) as process:
        while len(list(tmp_path.glob("runs/*/metrics.jsonl"))) < 2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            assert process.returncode is None
        process.kill()
        try:
            process.communicate(timeout=120)  # ends with the last process that has the pipe
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_help_lists_the_groups_and_shows_three_examples(dfa_bench):
    said = dfa_bench("run", "--help")
    assert said.code == 0
    assert sum(line.strip().startswith("dfa-bench run ") for line in said.out.splitlines()) >= 3
    wanted = {"model": "gcn", "rule": "dfa", "task": "nodes", "scale": "smoke"}.items()
    for group, option in [*wanted, ("dataset", "cora"), ("dataset", "lego"), ("dataset", "graph")]:
        assert any(line.startswith(f"{group}: ") and option in line for line in said.out.splitlines()), group


@pytest.mark.parametrize(
    "task, dataset, model",
    [
        ("nodes", "Cora", "gcn"),
        ("links", "Cora", "gae"),
        ("clicks", "Criteo", "deepfm"),
        ("language", "WikiText-2", "transformer"),
        ("view_synthesis", "lego", "nerf"),
    ],
)
def test_a_task_alone_brings_a_data_set_and_a_model(task, dataset, model):
    settings = run_settings([f"task={task}"])
    assert (settings.dataset.name, settings.model.name) == (dataset, model)
    chosen = run_settings([f"task={task}", f"model={model}", "rule=bp"])
    assert chosen.recipe == run_settings([f"task={task}", "rule=bp"]).recipe


def test_a_sweep_over_scenes_and_tasks_runs_in_parallel_through_joblib(run, tmp_path):
    parallel = "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=1"
    assert run("-m", "task=view_synthesis", "dataset=lego,fern", *parallel).code == 0
    assert run("-m", "task=links,clicks", *parallel).code == 0
    assert {(result["dataset"], result["model"]) for result in records(tmp_path)} == {
        ("lego", "nerf"),
        ("fern", "nerf"),
        ("Cora", "gae"),
        ("Criteo", "deepfm"),
    }


@pytest.mark.parametrize("task", ["graphs", "view_synthesis", "language", "click_through"])
def test_what_a_data_set_is_is_known_without_pytorch(task):
    heavy = "torch", "torch_geometric", "sklearn", "pandas", "polars"
    code = f"import dfa_bench.tasks.{task}.datasets, sys; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("choices", [[], ["model=gat", "rule=bp"], ["model=dna", "variant=paper"], ["seed=7"]])
def test_choices_keep_the_papers_protocol(choices):
    assert run_settings(choices).protocol == "paper"


@pytest.mark.parametrize("neutral", ["store.root=/tmp/x", "trainer.alignment_every=5", "logger=wandb", "data.root=/"])
def test_what_cannot_change_the_outcome_keeps_the_papers_protocol(neutral):
    assert run_settings([neutral]).protocol == "paper"


@pytest.mark.parametrize(
    "change",
    ["recipe.lr=0.02", "model.hidden=32", "trainer.max_epochs=5", "data.stand_in=true", "scale=smoke", "rule.seed=9"],
)
def test_other_hyperparameters_or_data_leave_the_papers_protocol(change):
    assert run_settings([change]).protocol == "reduced"


def test_data_says_where_each_set_is_and_what_is_missing(dfa_bench, real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = dfa_bench("data", f"data.root={real_data}")
    assert said.code == 0
    assert f"cora: {real_data / 'planetoid' / 'Cora' / 'raw'}" in said.out
    (tmp_path / "empty").mkdir()
    assert f"lego: {real_data / 'nerf_synthetic' / 'lego'}" in said.out
    assert "\nThe scene chair was not found" in said.out
    assert "The same holds for drums, ficus, hotdog, materials, mic, ship." in said.out
    assert not any(line.startswith(("blender", "llff", "graph", "clicks_file")) for line in said.out.splitlines())
    missing = dfa_bench("data", f"data.root={tmp_path / 'empty'}")
    assert "Cora was not found" in missing.out
    assert "`dfa-bench data get cora` downloads it. Or get its 8 files from" in missing.out
    assert missing.out.count("With scale=smoke") == 1
    assert list((tmp_path / "empty").iterdir()) == []
    assert dfa_bench("data", "get", "nope").code == 2
    assert "unknown option '~foo'. Options: data.root=DIR" in dfa_bench("data", "~foo").err


def test_missing_data_stop_a_run_with_the_one_message(dfa_bench, tmp_path, monkeypatch):
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    where = f"store.root={tmp_path}/runs", f"data.cache={tmp_path}/cache", "data.download=false"
    said = dfa_bench("run", *where)
    assert said.code == 1
    assert "Cora was not found" in said.err
    assert os.linesep not in said.err.strip()


def test_only_runs_fetch_data_and_each_set_once(dfa_bench, tmp_path, monkeypatch):
    tried = []

    def unreachable(url: str, sha256: object, folder: Path, name: str) -> None:
        tried.append(name)
        raise MissingData("no network")

    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    monkeypatch.setattr(resolve, "download", unreachable)
    where = f"data.cache={tmp_path}/cache", f"results={tmp_path}/results", f"store.root={tmp_path}/runs"
    for command in ("table", "claims", "curves"):
        dfa_bench(command, "table4", "seeds=2", *where)
    assert tried == []
    said = dfa_bench("reproduce", "table4", "seeds=2", "skip=*/*", *where)
    assert tried == ["Cora", "CiteSeer", "PubMed"]
    assert said.err.count("was not found") == 1
    assert "The same holds for CiteSeer, PubMed." in said.err
    assert "table4: none of its data are here. Synthetic data are used, and shown separately." in said.out


def test_cells_without_data_are_left_out_and_named_once(dfa_bench, tmp_path, monkeypatch):
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    write_blender(tmp_path / "data" / "nerf_synthetic" / "lego")
    where = f"data.root={tmp_path}/data", f"data.cache={tmp_path}/cache", f"store.root={tmp_path}/runs"
    said = dfa_bench("reproduce", "table1", "skip=*/*", f"results={tmp_path}/results", *where)
    assert said.code == 0
    assert said.err.count("Its archive can only be downloaded in a browser") == 2  # one an archive
    assert "The same holds for drums, ficus, hotdog, materials, mic, ship." in said.err
    assert "table1: no data, so no runs, of chair, drums, ficus," in said.out
    assert "0 runs to do, 0 done, 3 skipped." in said.out  # of lego; no stand-ins beside it
    shown = dfa_bench("table", "table1", f"results={tmp_path}/results", *where)
    assert "table1: no data here for chair, drums, ficus," in shown.err


def test_a_table_on_stand_ins_is_shown_apart_and_done_once(dfa_bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = dfa_bench("reproduce", "table4", "scale=smoke", "jobs=2")
    assert said.code == 0
    assert "STAND-IN DATA" in said.out
    assert not Path("results").exists()
    assert "0 runs to do, 9 done." in dfa_bench("reproduce", "table4", "scale=smoke").out


@pytest.mark.parametrize("arguments", [["table9"], ["table3", "seeds=0"], ["table3", "skip=Cora/Nothing"]])
def test_a_bad_request_for_a_table_is_refused(dfa_bench, arguments):
    said = dfa_bench("reproduce", *arguments)
    assert said.code == 2
    assert said.err.startswith("Error: ")


@pytest.mark.parametrize("command", ["table", "claims", "report", "curves"])
def test_what_only_a_tables_task_has_can_be_set(dfa_bench, tmp_path, command):
    own = "trainer.max_tokens=5000000", "task.vocabulary=400", "model.layers=1"
    said = dfa_bench(command, "table5", *own, f"results={tmp_path}", f"store.root={tmp_path}", f"data.root={tmp_path}")
    assert said.code == (2 if command == "curves" else 0)
    assert "unknown setting" not in said.err
    assert ("Error: No run of table5" in said.err) == (command == "curves")


def test_the_claims_of_no_runs_are_not_tested(dfa_bench, tmp_path):
    said = dfa_bench("claims", f"results={tmp_path}", f"store.root={tmp_path}")
    assert said.code == 0
    assert "table3-dfa-near-bp" in said.out
    assert "no results/figure2.json" in said.out
    assert "│ not tested │" in said.out
    assert "supported  │" not in said.out


@pytest.mark.parametrize("words", [["2"], ["1", "--scenes", "lego", "model.density_noise=1.0"]])
def test_a_figure_of_a_run_that_diverged_is_refused_in_a_sentence(dfa_bench, tmp_path, words):
    where = "trainer.accelerator=cpu", f"results={tmp_path / 'out'}", f"store.root={tmp_path / 'runs'}"
    for _ in range(2):  # the second time the run is found in the store
        said = dfa_bench("figure", *words, "scale=smoke", "recipe.lr=1e30", *where)
        assert said.code == 2
        assert "diverged and has no trained weights. The loss became" in said.err
        assert "Traceback" not in said.err


def test_figure_2_of_stand_ins_is_labelled_in_name_and_record(dfa_bench, tmp_path, monkeypatch):
    monkeypatch.setitem(TSNE_SETTINGS, "max_iter", 250)  # the least that t-SNE takes
    where = f"results={tmp_path}/out", f"store.root={tmp_path}/runs"
    said = dfa_bench("figure", "2", "--seeds", "2", "scale=smoke", *where)
    assert said.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"figure2-stand-in.{ending}" for ending in ("json", "png", "svg")
    ]
    panels = json.loads((tmp_path / "out" / "figure2-stand-in.json").read_text())
    assert [(panel["seed"], panel["rule"], panel["data"]) for panel in panels] == [
        (seed, rule, "stand-in") for seed in (0, 1) for rule in ("bp", "dfa", "shallow")
    ]
    assert panels[0]["tsne"] == TSNE_SETTINGS
    assert ["silhouette_tsne" in panel for panel in panels] == [True] * 3 + [False] * 3  # only the first is drawn
    assert dfa_bench("figure", "7").code == 2
    assert dfa_bench("figure", "1", "--seeds", "2").code == 2


def test_a_reproduction_with_fewer_seeds_keeps_the_seeds_that_are_done(dfa_bench, real_data, tmp_path):
    where = f"data.root={real_data}", f"results={tmp_path}/results", f"store.root={tmp_path}/runs"
    (tmp_path / "results").mkdir()
    shutil.copy(RUNS, tmp_path / "results")
    said = dfa_bench("reproduce", "table4", "seeds=1", *where)
    assert said.code == 0
    assert "0 runs to do, 9 done." in said.out
    rows = (tmp_path / "results" / "table4.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 9
    assert all(int(row.split(",")[8]) >= 10 for row in rows[1:])


def test_what_is_drawn_with_other_settings_stands_apart():
    assert [file_suffix(True, True), file_suffix(True, False)] == ["-stand-in", "-stand-in"]
    assert [file_suffix(False, True), file_suffix(False, False)] == ["-changed", ""]


def test_curves_and_bootstrap_go_by_the_runs_in_the_store(dfa_bench, tmp_path):
    where = "scale=smoke", f"results={tmp_path}/out", f"store.root={tmp_path}/runs"
    for command in ("curves", "bootstrap"):
        said = dfa_bench(command, "first/table2", *where)
        assert (said.code, "in the run store" in said.err) == (2, True)
    assert dfa_bench("reproduce", "first/table2", "jobs=1", *where).code == 0
    assert dfa_bench("curves", "first/table2", *where).code == 0
    said = dfa_bench("bootstrap", "first/table2", *where)
    assert said.code == 0
    assert "Criteo (stand-in) DeepFM" in said.out
    found = sorted(path.name for path in (tmp_path / "out").rglob("*.*"))
    endings = ("bootstrap-stand-in.csv", "bootstrap-stand-in.md", "curves-stand-in.png", "curves-stand-in.svg")
    assert found == [f"table2-{ending}" for ending in endings]


def test_records_without_a_curve_and_damaged_ones_cost_no_other_its_curve(dfa_bench, run, tmp_path):
    for rule in ("bp", "dfa", "shallow"):
        assert run("task=links", "model=gae", f"rule={rule}").code == 0
    bp, dfa, shallow = (next((tmp_path / "runs").glob(f"*-{rule}-*")) for rule in ("bp", "dfa", "shallow"))
    stopped = json.loads((bp / "result.json").read_text()) | {"status": "diverged", "epochs": 0}
    (bp / "result.json").write_text(json.dumps(stopped))
    (bp / "metrics.jsonl").write_text("")
    (dfa / "result.json").write_text('{"record_version": 1, "ident')
    where = "scale=smoke", "trainer.accelerator=cpu", f"results={tmp_path}/out", f"store.root={tmp_path}/runs"
    said = dfa_bench("curves", "table4", *where)
    assert (said.code, "is damaged" in said.err) == (0, True)
    (shallow / "metrics.jsonl").write_text("")
    said = dfa_bench("curves", "table4", *where)
    assert (said.code, "No run of table4 in the run store has a curve" in said.err) == (2, True)
    (dfa / "config.yaml").write_text("task:\n  name: li")
    assert "is damaged, or was written by a different version" in dfa_bench("align", str(dfa)).err


def test_a_table_whose_runs_all_diverged_says_so(dfa_bench, run, tmp_path):
    said = run("task=links", "model=gae", "rule=bp", "recipe.lr=1e30", "trainer.max_epochs=3")
    assert said.code == 1
    where = "scale=smoke", "trainer.accelerator=cpu", "recipe.lr=1e30", "trainer.max_epochs=3"
    said = dfa_bench("table", "table4", *where, f"results={tmp_path}/out", f"store.root={tmp_path}/runs")
    assert "Without a number, as all runs diverged or are NaN: Cora GAE BP (1 run)" in said.out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["runs", "age=99999999999999d"], "too long ago"),
        (["report", "table4", "results=/dev/null/x"], "cannot be written"),
        (["reproduce", "table4", "scale=smoke", "results=/dev/null/x"], "cannot be written"),  # before it trains
        (["reproduce", "table4", "--until-decided", "1", "results=/dev/null/x"], "cannot be written"),
        (["figure", "2", "--scenes", "lego"], "are of figure 1"),
        (["figure", "1", "--models", "gcn"], "is of figure alignment"),
        (["table", "3", "trainer.max_epoch=10"], "Did you mean 'trainer.max_epochs'?"),
        (["run", "recipe.lrr=0.02"], "Did you mean 'recipe.lr'?"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(dfa_bench, tmp_path, arguments, said):
    told = dfa_bench(*arguments, f"store.root={tmp_path}")
    assert (told.code, said in told.err) == (2, True)


def test_a_report_of_stand_ins_says_so_and_is_published_on_request(dfa_bench, tmp_path):
    where = "scale=smoke", f"results={tmp_path}/results", f"store.root={tmp_path}/runs"
    assert (
        dfa_bench("run", "task=links", "model=gae", "rule=dfa", "scale=smoke", f"store.root={tmp_path}/runs").code == 0
    )
    said = dfa_bench("report", "table4", *where, "logger=wandb", "logger.mode=offline")
    assert said.code == 0
    page = (tmp_path / "results" / "report-part.html").read_text()
    assert "Stand-in runs" in page
    assert "paper 0." not in page
    assert list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
