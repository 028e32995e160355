"""Dependencies point one way (docs: DESIGN)."""

import ast
from pathlib import Path

import pytest

import dfa_bench

PACKAGE = Path(dfa_bench.__file__).parent
COMMANDS = {"cli", "sweeps", "reproduce", "plan", "data_command", "figure_command", "pool", "request", "compose"}
COMMANDS |= {"arguments", "evaluate_command", "render_command", "trained_views", "view_figure"}
FORBIDDEN = {
    "feedback": {"settings", "errors", "data", "tasks", "training", "runs", "reporting", *COMMANDS},
    "data": {"tasks", "training", "runs", "reporting", "feedback", *COMMANDS},
    "tasks": {"training", "runs", "reporting", "feedback", *COMMANDS},
    "runs": {"tasks", "training", "reporting", "feedback", *COMMANDS},
    "training": {"reporting", *COMMANDS},
    "reporting": {"tasks", "training", "feedback", *COMMANDS},
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


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_that_stands_above_it(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    assert {
        str(path): sorted(imported(path) & FORBIDDEN[room]) for path in files if imported(path) & FORBIDDEN[room]
    } == {}
