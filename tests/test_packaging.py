"""What is installed: with PyTorch alone the learning rules, with the extra `suite` the rest."""

import ast
import os
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dfa_bench

PACKAGE = Path(dfa_bench.__file__).parent
ROOT = PACKAGE.parent


def needed_by(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it needs, by the metadata of what is installed here."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed_by(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Run Python where PyTorch, what it needs and this package are all that can be imported."""
    folder = tmp_path_factory.mktemp("bare")
    for name in needed_by("torch", set()):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    (folder / "dfa_bench").symlink_to(PACKAGE)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *arguments]  # no site-packages
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)

    return python


def test_the_learning_rules_work_where_only_pytorch_is_installed(bare):
    assert bare("-c", "import pydantic").returncode  # the place is as bare as it says
    done = bare(str(ROOT / "examples" / "own_model.py"))
    assert done.returncode == 0, done.stderr
    assert "learns from '1'" in done.stdout
    assert float(done.stdout.split()[-1]) > 0.9


@pytest.mark.parametrize(
    "room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "feedback")
)
def test_every_other_room_says_which_extra_it_needs(room, bare):
    done = bare("-c", f"import dfa_bench.{room}")
    assert done.returncode
    assert "pip install 'dfa-bench[suite]'" in done.stderr


def test_the_command_says_which_extra_it_needs_without_a_stack_trace(bare):
    done = bare("-m", "dfa_bench", "--help")
    assert done.returncode == 1
    assert done.stderr.startswith("This part of dfa-bench needs packages that are not installed (hydra, ")
    assert "Traceback" not in done.stderr


def test_the_version_is_that_of_the_installed_package():
    assert dfa_bench.__version__ == version("dfa-bench")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dfa_bench.nothing  # noqa: B018


def test_the_root_of_the_package_imports_nothing():
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in body)
