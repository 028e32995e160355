"""Dependencies point one way (docs: DESIGN)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dfa_bench

PACKAGE = Path(dfa_bench.__file__).parent
# Each room, and the rooms that it may use: those below it.
BELOW = {
    "feedback": set(),
    "settings": {"errors"},
    "data": {"settings", "errors"},
    "runs": {"feedback", "data", "settings", "errors"},  # a rule says itself what of it makes a run another one
    "tasks": {"data", "settings", "errors"},
    "training": {"tasks", "feedback", "runs", "data", "settings", "errors"},
    "experiments": {"training", "tasks", "feedback", "runs", "data", "settings", "errors"},
    "reporting": {"experiments", "training", "tasks", "feedback", "runs", "data", "settings", "errors"},
    "commands": {"reporting", "experiments", "training", "tasks", "feedback", "runs", "data", "settings", "errors"},
}


def imported(path: Path) -> set[str]:
    """First part below dfa_bench of everything that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("dfa_bench.")}


def test_only_the_mistakes_lie_flat_at_the_root():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "errors"}
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms == BELOW.keys()


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_stands_below_it(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    above = {str(path): sorted(imported(path) - {room} - BELOW[room]) for path in files}
    assert {path: names for path, names in above.items() if names} == {}


def test_feedback_works_where_only_torch_is_installed():
    """Whatever torch itself does not import is blocked, and every learning rule trains a step."""
    program = """
import sys, torch, torch.func, torch.utils.checkpoint
torch.optim.SGD([torch.zeros(1, requires_grad=True)])

class Block:
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root not in {*sys.stdlib_module_names, "torch", "dfa_bench"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackAlignment, FeedbackPath, Shallow, alignment
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
inputs = torch.randn(5, 3)
for rule in (Backprop(), Shallow(), DirectFeedback(), FeedbackAlignment()):
    with rule.attach(model, FeedbackPath(["1"]), inputs) as attached:
        alignment(attached, lambda: model(inputs).square().sum().backward())
        model(inputs).square().sum().backward()
        print(attached.describe())
assert "learns through feedback alignment" in str(attached.describe())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
