"""What a newcomer adds by the how-to pages works, everywhere, and no other file has to change.

Each trial writes the files that a page shows into a copy of the source and uses them there on the command line.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

import dfa_bench
from tests.wandb_file import history, run_of, written

ROOT = Path(dfa_bench.__file__).parent.parent
SOURCE = ("dfa_bench", "configs", "experiments")
# A block of code that begins with its path in a comment; Hydra wants `# @package` above it.
SHOWN = re.compile(r"^```\w+\n((?:# @package .*\n)?# (\S+/\S+\.(?:py|yaml))\b.*\n(?:.*\n)*?)```$", re.MULTILINE)


def shown(page: str) -> dict[str, str]:
    """The files that a page of the documentation shows, by path."""
    return {path: text for text, path in SHOWN.findall((ROOT / "docs" / page).read_text())}


def study(overrides: str, rules: str) -> str:
    """A study of one cell."""
    return f"""
kind: study
title: "Study: a newcomer, test accuracy (%)"
overrides: [{overrides}]
metrics:
  accuracy: {{key: test/accuracy, factor: 100, digits: 1}}
rules: [{rules}]
rows:
  first row: {{}}
columns:
  only column: {{}}
"""


class Copy:
    """A copy of the source, with the commands that run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in SOURCE:
            shutil.copytree(ROOT / name, root / name)
        self._before = self._files()

    def write(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            assert not (self.root / path).exists()
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def dfa_bench(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        return self._python("-m", "dfa_bench", *arguments)

    def contracts(self, selected: str) -> str:
        """Run the contract tests of the selected configurations in the copy."""
        (self.root / "tests").mkdir()
        for name in ("__init__.py", "conftest.py", "test_contracts.py"):
            shutil.copy(ROOT / "tests" / name, self.root / "tests")
        options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", selected, "--rootdir", str(self.root))
        return self._python("-m", "pytest", *options, str(self.root / "tests" / "test_contracts.py"))

    def changed(self) -> set[str]:
        """Files of the source that are new, different or gone."""
        after = self._files()
        return {path for path in self._before | after if self._before.get(path) != after.get(path)}

    def _files(self) -> dict[str, bytes]:
        paths = [path for name in SOURCE for path in (self.root / name).rglob("*") if "__pycache__" not in path.parts]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths if path.is_file()}

    def _python(self, *arguments: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTEST_"))}
        home = {"HOME": str(self.root / "home"), "XDG_CACHE_HOME": str(self.root / "cache")}
        home |= {f"WANDB_{place}_DIR": str(self.root / "home") for place in ("CACHE", "DATA", "CONFIG")}
        home |= {"MPLCONFIGDIR": matplotlib.get_configdir()}  # with its list of fonts
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=self.root,
            env={**kept, **home, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    shutil.rmtree(made.root, ignore_errors=True)


def everywhere(copy: Copy, name: str, labels: set[str]) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Train an experiment on stand-ins; table, curves and report must show it.

    Returns what Weights & Biases has of its runs: their curves by group and rule.
    """
    logged = "scale=smoke", "logger=wandb", "logger.mode=offline"  # the same, so that planning is done once
    copy.dfa_bench("reproduce", name, "--jobs", "1", *logged)
    table = copy.dfa_bench("table", name, *logged)
    copy.dfa_bench("curves", name, *logged)
    copy.dfa_bench("report", name, "scale=smoke")
    drawn = (copy.root / "results" / f"{name}-curves-stand-in.svg").read_text()
    report = (copy.root / "results" / "report-part.html").read_text()
    for label in labels:
        assert re.search(rf"\b{label}\b", table), table
        assert re.search(rf"\b{label}\b", report)
        assert re.search(rf"\b{label}\b", drawn)
    found = {}
    for folder in (copy.root / "runs").glob("*/wandb"):
        records = written(folder.parent)
        run = run_of(records)
        found[run.run_group, run.job_type] = history(records)
    return found


def test_a_learning_rule_is_two_files(copy):
    files = shown("own_rule.md")
    assert [*files] == ["dfa_bench/feedback/noisy.py", "configs/rule/noisy.yaml"]
    copy.write(files)
    experiment = {"experiments/studies/newcomer.yaml": study("task=nodes, trainer.alignment_every=2", "bp, dfa, noisy")}
    copy.write(experiment)
    logged = everywhere(copy, "studies/newcomer", {"BP", "DFA", "noisy BP"})
    assert {rule for _, rule in logged} == {"bp", "dfa", "noisy"}
    for (_, rule), lines in logged.items():
        assert any("val/accuracy" in line for line in lines)
        assert any(key.startswith("alignment/") for line in lines for key in line) == (rule != "bp")
    assert "3 passed" in copy.contracts("noisy and (gcn or deepfm)")
    assert copy.changed() == {*files, *experiment}


def test_a_model_is_three_files(copy):
    files = shown("own_model.md")
    assert [*files] == ["dfa_bench/tasks/graphs/gin.py", "configs/model/gin.yaml", "configs/recipe/gin.yaml"]
    copy.write(files)
    experiment = {"experiments/studies/newcomer.yaml": study("task=nodes, dataset=cora, model=gin", "bp, dfa, shallow")}
    copy.write(experiment)
    logged = everywhere(copy, "studies/newcomer", {"BP", "DFA", "shallow"})
    assert {*logged} == {("gin-Cora", "bp"), ("gin-Cora", "dfa"), ("gin-Cora", "shallow")}
    assert "9 passed" in copy.contracts("gin")
    assert copy.changed() == {*files, *experiment}


def test_a_data_set_is_two_files(copy):
    files = shown("own_data.md")
    assert [*files] == ["dfa_bench/tasks/graphs/karate.py", "configs/dataset/karate.yaml"]
    copy.write(files)
    experiment = {"experiments/studies/newcomer.yaml": study("task=nodes, dataset=karate", "bp, dfa")}
    copy.write(experiment)
    logged = everywhere(copy, "studies/newcomer", {"BP", "DFA"})
    assert {*logged} == {("gcn-Karate", "bp"), ("gcn-Karate", "dfa")}
    assert re.search(r"^karate: /", copy.dfa_bench("data"), re.MULTILINE)
    copy.dfa_bench("reproduce", "studies/newcomer", "--jobs", "1")
    _, *rows = (copy.root / "results" / "studies" / "newcomer.csv").read_text().splitlines()
    assert [row.split(",")[3] for row in rows] == ["bp", "dfa"]
    assert all(row.endswith(",cpu,reduced") for row in rows)
    assert "2 passed" in copy.contracts("karate")
    assert copy.changed() == {*files, *experiment}


def test_a_task_is_a_folder_and_its_configuration(copy):
    files = shown("own_task.md")
    room = {f"dfa_bench/tasks/digits/{name}.py" for name in ("__init__", "datasets", "models", "task")}
    groups = {"task/digits", "dataset/digits", "model/mlp", "recipe/mlp"}
    assert {*files} == {*room, *(f"configs/{each}.yaml" for each in groups), "experiments/studies/digits.yaml"}
    copy.write(files)
    logged = everywhere(copy, "studies/digits", {"BP", "DFA", "shallow"})
    assert {*logged} == {("mlp-Digits", "bp"), ("mlp-Digits", "dfa"), ("mlp-Digits", "shallow")}
    assert "5 passed" in copy.contracts("digits and (bp or shallow or stand_in)")
    assert copy.changed() == {*files}
