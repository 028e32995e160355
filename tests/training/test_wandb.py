"""Weights & Biases, by reading back what it wrote offline, and without an account."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

import dfa_bench
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.runs.record import Record
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import LoggerSettings
from dfa_bench.training.execute import execute
from dfa_bench.training.loggers import build_logger, publish_results, remove_unsent
from tests.wandb_file import history, run_of, to_the_end, written

ROOT = Path(dfa_bench.__file__).parent.parent
OFFLINE = ("logger=wandb", "logger.mode=offline", "rule=bp")
TABLES = sorted((ROOT / "examples" / "wandb").glob("*.yaml"))


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def test_a_run_has_group_job_type_tags_and_its_curves(smoke):
    outcome = execute(smoke(*OFFLINE, "trainer.max_epochs=3", "logger.tags=[mine]"))
    found = written(outcome.folder)
    run = run_of(found)
    assert run.run_id == outcome.result.identity
    assert (run.run_group, run.job_type) == ("gcn-Cora", "bp")
    assert set(run.tags) == {"nodes", "Table 3", "variant released", "scale smoke", "mine"}
    lines = history(found)
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert all("val/accuracy" in line for line in lines)
    steps = [record.metric for record in found if record.WhichOneof("record_type") == "metric"]
    assert {(metric.glob_name, metric.step_metric) for metric in steps} >= {("*", "epoch")}


def test_rules_share_the_group_and_seeds_do_too(smoke):
    groups = Counter()
    for rule, seed in itertools.product(("bp", "dfa"), (0, 1)):
        overrides = [*OFFLINE[:2], f"rule={rule}", f"seed={seed}", "trainer.max_epochs=1"]
        found = written(execute(smoke(*overrides)).folder)
        groups[run_of(found).run_group] += 1
    assert groups == {"gcn-Cora": 4}


def test_a_killed_run_keeps_its_id_and_has_every_epoch_once(smoke, tmp_path):
    overrides = [*OFFLINE, "trainer.max_epochs=400"]
    command = [sys.executable, "-m", "dfa_bench", "run", "scale=smoke", *overrides, "trainer.checkpoint_seconds=0.2"]
    command += ["trainer.accelerator=cpu", f"store.root={tmp_path / 'runs'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "runs").glob("*/checkpoint.previous.pt")):
        os.sched_yield()
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was done before"
    outcome = execute(smoke(*overrides))
    (file,) = outcome.folder.glob("wandb/offline-run-*/run-*.wandb")
    assert file.stem == f"run-{outcome.result.identity}"
    lines = history(to_the_end(file))
    assert [(int(line["epoch"]), int(line["_step"])) for line in lines] == [(each, each) for each in range(1, 401)]
    recorded = Record(outcome.folder).read_metrics()
    assert [float(line["train/loss"]) for line in lines] == [line["train/loss"] for line in recorded]


def test_what_was_sent_already_stays_and_what_has_arrived_is_not_logged_again(smoke, monkeypatch, tmp_path):
    sent, unsent = (tmp_path / "wandb" / f"offline-run-{each}-key" for each in (1, 2))
    for folder in (sent, unsent):
        folder.mkdir(parents=True)
    (sent / "run-key.wandb.synced").touch()
    remove_unsent(tmp_path, "key")
    assert [folder.exists() for folder in (sent, unsent)] == [True, False]

    logged, given = [], []

    class Online:  # a run of which two epochs have arrived
        step = 3

        def define_metric(self, *names: str, **more: str) -> None:
            pass

        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((values["epoch"], step))

    monkeypatch.setattr("wandb.init", lambda **options: given.append(options["resume"]) or Online())
    record = Record(tmp_path)
    for epoch in range(1, 5):
        record.append_metrics({"epoch": epoch, "train/loss": 1.0})
    logger = build_logger(smoke("logger=wandb"), "key", record, resumes=True)
    logger.log(5, {"train/loss": 1.0})
    assert logged == [(3, 3), (4, 4), (5, 5)]
    build_logger(smoke("logger=wandb"), "key", Record(tmp_path / "new"), resumes=False)
    assert given == ["allow", None]


def test_the_job_type_tells_macro_from_micro_where_the_rule_does(smoke, monkeypatch, tmp_path):
    kinds = []
    monkeypatch.setattr("wandb.init", lambda **options: kinds.append(options["job_type"]) or MagicMock(step=0))
    for chosen in (["rule=bp"], ["rule=dfa"], ["rule=dfa", "feedback=micro"], ["rule=dfa", "feedback=micro_logits"]):
        build_logger(smoke("task=language", "logger=wandb", *chosen), "key", Record(tmp_path), resumes=False)
    assert kinds == ["bp", "dfa-macro", "dfa-micro", "dfa-micro_logits"]


def test_a_run_that_diverged_has_failed_in_the_dashboard_too(smoke):
    outcome = execute(smoke(*OFFLINE, "recipe.lr=1e30", "trainer.max_epochs=20"))
    assert outcome.result.status == "diverged"
    codes = [r.exit.exit_code for r in written(outcome.folder) if r.WhichOneof("record_type") == "exit"]
    assert codes == [1]


def test_without_an_account_there_is_a_warning_and_the_run_is_done(smoke, capfd):
    outcome = execute(smoke("logger=wandb", "logger.mode=online", "rule=bp", "trainer.max_epochs=1"))
    assert outcome.result.status == "finished"
    assert "Weights & Biases did not start" in capfd.readouterr().err


def test_without_a_network_there_is_a_warning_and_the_run_is_done(smoke, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr("dfa_bench.training.loggers.START_SECONDS", 1)
    outcome = execute(smoke("logger=wandb", "logger.mode=online", "rule=bp", "trainer.max_epochs=1"))
    assert outcome.result.status == "finished"
    assert "Weights & Biases" in capfd.readouterr().err


def test_results_are_an_artifact_with_tables_and_figures(tmp_path):
    publish_results(LoggerSettings(name="wandb", mode="offline"), ROOT / "results", tmp_path)
    found = written(tmp_path)
    run = run_of(found)
    assert run.job_type == "report"
    artifacts = [r.request.log_artifact.artifact for r in found if r.HasField("request")]
    artifacts += [r.artifact for r in found if r.WhichOneof("record_type") == "artifact"]
    (results,) = [each for each in artifacts if each.name == "results"]
    names = {entry.path for entry in results.manifest.contents}
    assert {"table3.md", "table3.csv", "table3.tex", "figure2.png", "studies/regularisation.md"} <= names
    logged = {key.partition(".")[0] for line in history(found) for key in line}
    assert any(key.startswith("tables/table3") for key in logged)
    assert any(key.startswith("figures/figure2") for key in logged)


def test_results_that_cannot_be_published_are_a_warning(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("dfa_bench.training.loggers.START_SECONDS", 1)
    publish_results(LoggerSettings(name="wandb", mode="online"), ROOT / "results", tmp_path)
    assert "Weights & Biases did not accept the results" in capfd.readouterr().err


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
def test_every_command_of_a_sweep_is_a_run(file):
    sweep = yaml.safe_load(file.read_text())
    assert sweep["program"] == "dfa-bench"
    env, program, command, *fixed, arguments = sweep["command"]
    assert (env, program, command, arguments) == ("${env}", "${program}", "run", "${args_no_hyphens}")
    axes = [[f"{name}={value}" for value in axis["values"]] for name, axis in sweep["parameters"].items()]
    chosen = [[axis[0] for axis in axes]] + [
        [value if axis is changed else axis[0] for axis in axes] for changed in axes for value in changed[1:]
    ]
    for parameters in chosen:
        settings = run_settings([*fixed, *parameters])
        assert settings.logger.name == "wandb"


def test_the_dashboard_has_panels_for_the_metrics_of_each_table():
    rows = re.findall(r"^\| Table (\d) \| (.*)$", (TABLES[0].parent / "README.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == [1, 2, 3, 4, 5]
    for number, row in rows:
        panels = set(re.findall(r"`((?:val|test)/\w+)`", row))
        table = load_experiment(resource_folder("experiments"), f"table{number}")
        sweep = yaml.safe_load((TABLES[0].parent / f"table{number}.yaml").read_text())
        assert panels >= {metric.key for metric in table.metrics.values() if metric.shown} | {sweep["metric"]["name"]}


def test_every_table_has_a_sweep():
    assert {file.stem.partition("_")[0] for file in TABLES} == {f"table{number}" for number in range(1, 6)}
