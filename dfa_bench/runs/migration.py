"""Runs recorded before identities left out dotted class names (27 November 2026) get their present identities.

Rows of runs.csv, which keep no configuration, are renamed by a table of every run that was planned then; records in a
store are renamed by their own configuration. Both are harmless when repeated.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dfa_bench.settings.resources import resource_folder

TABLE = Path(__file__).with_name("identities.csv")  # old, new


@functools.cache
def present_identities() -> Mapping[str, str]:
    """Old identity to new."""
    with TABLE.open(newline="") as file:
        return {row["old"]: row["new"] for row in csv.DictReader(file)}


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an old record in its present form: classes where they lie now, a rule with its own settings.

    Args:
        values: of the record's config.yaml.
    """
    new: dict[str, Any] = {**values}
    for part in ("task", "dataset", "model"):
        new[part] = _moved(values[part], part)
    new["task"] = {name: _moved(each, "dataset") for name, each in new["task"].items()}
    rule_file = resource_folder("configs") / "rule" / f"{values['rule']['name']}.yaml"
    rule = OmegaConf.to_container(OmegaConf.load(rule_file))
    assert isinstance(rule, dict)
    new["rule"] = {name: values["rule"].get(name, each) for name, each in rule.items()}
    new["recipe"] = {**values["recipe"], "of": values["rule"]["name"]}
    return new


def _moved(value: Any, part: str) -> Any:
    """A component with the class that its name stands for today; all else as it is."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    kept = {name: each for name, each in value.items() if not (part == "dataset" and name == "sha256")}
    return {**kept, "_target_": registered(part).get(value["name"], value["_target_"])}
