"""`configs/rule/` is the one place that makes a learning rule known."""

import subprocess
import sys

import pytest
import yaml
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from dfa_bench.errors import ConfigError
from dfa_bench.runs.rule import build_rule
from dfa_bench.settings import rules as registry
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.rules import compared_pairs, rules
from dfa_bench.settings.schema import RuleSettings

FOLDER = resource_folder("configs") / "rule"


@pytest.fixture
def other_registry(tmp_path, monkeypatch):
    """A copy of the registry that a test may change; `write` adds or replaces a file."""
    (tmp_path / "rule").mkdir()
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / "rule" / path.name).write_text(path.read_text())
    monkeypatch.setattr(registry, "resource_folder", lambda name: tmp_path)

    def write(file, **changes):
        values = yaml.safe_load((FOLDER / "dfa.yaml").read_text()) | {"name": file} | changes
        values = {key: value for key, value in values.items() if value is not ...}
        (tmp_path / "rule" / f"{file}.yaml").write_text(yaml.safe_dump(values))

    return write


def test_rules_are_the_files_in_the_order_of_the_alphabet():
    assert list(rules()) == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert {"bp", "dfa", "fa", "shallow"} <= rules().keys()


def test_curves_can_be_told_apart_by_dashes_by_colour_and_by_marker():
    for facts in zip(*((entry.line, entry.colour, entry.marker) for entry in rules().values()), strict=True):
        assert len(set(facts)) == len(rules())
    for entry in rules().values():
        Line2D([0], [0], linestyle=entry.line, color=to_rgb(entry.colour), marker=entry.marker)


def test_pairs_are_of_rules_that_are_both_there():
    assert compared_pairs(["bp", "dfa", "shallow"]) == [("dfa", "bp")]
    assert compared_pairs(["fa", "dfa", "bp"]) == [("dfa", "bp"), ("fa", "bp")]
    assert compared_pairs(["dfa", "shallow"]) == []


@pytest.mark.parametrize(
    "name, changes, told",
    [
        ("new", {"label": ...}, "label"),
        ("new", {"compared_with": "nope"}, "unknown rule 'nope': choose one of bp, dfa, .*, new, .*, shallow"),
        ("new", {"name": "other"}, "must be the name of the file"),
    ],
)
def test_a_file_that_is_wrong_is_named(other_registry, name, changes, told):
    other_registry(name, **changes)
    with pytest.raises(ConfigError, match=f"(?s)configs/rule/{name}.yaml: .*{told}"):
        rules()


def test_a_new_file_is_a_new_rule(other_registry):
    other_registry("mine", label="Mine", seed=3)
    assert rules()["mine"].label == "Mine"
    assert build_rule(RuleSettings.model_validate({"name": "mine", "seed": 3})).seed == 3


def test_the_class_of_every_rule_has_the_settings_of_its_file():
    for name, entry in rules().items():
        given = {key: 7 if value == "${seed}" else value for key, value in entry.defaults.items()}
        built = build_rule(RuleSettings.model_validate({"name": name, **given}))
        assert {key: getattr(built, key) for key in given} == given
        assert build_rule(RuleSettings.model_validate({"name": name})) == type(built)()


@pytest.mark.parametrize(
    "rule, values, told",
    [
        (
            "dfa",
            {"distribution": "flat"},
            "rule.distribution=flat: input should be 'uniform', 'normal' or 'orthogonal'.",
        ),
        ("dfa", {"seed": -1}, "rule.seed=-1: give a whole number from 0"),
        ("dfa", {"scale": 0}, "rule.scale=0"),
        ("dfa", {"seed": "abc"}, "rule.seed=abc: input should be a valid integer"),
        ("fa", {"scale": "inf"}, "rule.scale=inf"),
        ("fa", {"shared": True}, "rule=fa has no setting 'rule.shared'."),
        ("bp", {"seed": 1, "foo": 1}, "rule=bp has no setting 'rule.foo'.\nrule=bp has no setting 'rule.seed'"),
    ],
)
def test_impossible_settings_are_told_in_a_sentence(rule, values, told):
    with pytest.raises(ConfigError) as error:
        build_rule(RuleSettings.model_validate({"name": rule, **values}))
    assert str(error.value).startswith(told)


def test_the_registry_needs_neither_torch_nor_hydra():
    program = (
        "import sys; from dfa_bench.settings.rules import rules; rules(); print({'torch', 'hydra'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
