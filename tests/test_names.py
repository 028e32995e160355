"""No name has two meanings: a class or a public function is defined in one module only."""

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import dfa_bench

MODULES = [ast.parse(path.read_text()) for path in Path(dfa_bench.__path__[0]).rglob("*.py")]
DOORS = {"command", "main", "register"}  # the same door in several modules: of a command, `python -m`, Hydra


def twice(names: Iterable[str]) -> list[str]:
    counts = Counter(names)
    assert len(counts) > 100  # they are found
    return [name for name, count in counts.items() if count > 1]


def test_no_class_has_the_name_of_another():
    nodes = [node for module in MODULES for node in ast.walk(module)]
    assert twice(node.name.strip("_") for node in nodes if isinstance(node, ast.ClassDef)) == []


def test_no_public_function_has_the_name_of_another():
    functions = [node for module in MODULES for node in module.body if isinstance(node, ast.FunctionDef)]
    assert twice(each.name for each in functions if not each.name.startswith("_") and each.name not in DOORS) == []
