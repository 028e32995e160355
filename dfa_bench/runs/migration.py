"""Runs recorded before identities left out dotted class names, and those of NeRF before its patterns had `**` for any
names between (both 27 November 2026), get their present identities.

Rows of runs.csv, which keep no configuration, are renamed by a table of every run that was planned then; records in a
store are renamed by their own configuration. Both are harmless when repeated.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dfa_bench.data.resolve import DataCard
from dfa_bench.runs.identity import identity
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import NAMED, record_of
from dfa_bench.settings.components import registered
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.scenes import SCENES
from dfa_bench.settings.schema import parse_settings

SCENE_FILES = "dfa_bench.tasks.view_synthesis.datasets.SceneFiles"
TASK_VERSION = 1  # of every task's numerics, until then: later ones make other runs
# Old and new: of version 0.1, and of the old patterns.
TABLES = tuple(Path(__file__).with_name(name) for name in ("identities.csv", "identities_of_patterns.csv"))


@functools.cache
def present_identities() -> Mapping[str, str]:
    """Old identity to new."""
    found: dict[str, str] = {}
    for table in TABLES:
        with table.open(newline="") as file:
            found |= {row["old"]: row["new"] for row in csv.DictReader(file)}
    return found


def migrate_ledger(ledger: Ledger) -> int:
    """Rename the rows of a runs.csv; returns how many were renamed."""
    renamed = {key: present_identities()[key] for key in ledger.runs if key in present_identities()}
    if renamed:
        ledger.rename(renamed)
    return len(renamed)


def migrate_store(root: Path) -> Iterator[tuple[Path, Path]]:
    """Rename the finished records of a store; yields the old and the new folder of each.

    Raises:
        RecordError: a record is damaged, or cannot be written.
        ConfigError: its configuration is none of this suite's.
    """
    for config in sorted(root.glob("*/config.yaml")):
        record = Record(config.parent)
        result = record.read_result()
        values = OmegaConf.to_container(OmegaConf.load(config))
        if result is None or not isinstance(values, dict) or "of" in values["recipe"]:  # unfinished, or of today
            continue
        settings = parse_settings(upgraded({str(name): each for name, each in values.items()}))
        card = DataCard(result.data_name, result.data_kind, result.data_rows, result.data_sha256)
        key = identity(settings, card, TASK_VERSION)
        record.write_config(settings.model_dump(mode="json", by_alias=True))
        record.write_result(dataclasses.replace(result, identity=key))
        target = config.parent.with_name(record_of(settings, key).folder.name)
        if NAMED.search(config.parent.name) and not target.exists():  # a copy keeps the name that its owner gave it
            config.parent.rename(target)
            yield config.parent, target


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
    known = {**dict.fromkeys(SCENES, SCENE_FILES), **registered(part)} if part == "dataset" else registered(part)
    return {**kept, "_target_": known.get(value["name"], value["_target_"])}
