"""Claims about figures."""

import json
import math
import shlex

import click
import pytest

from dfa_bench.commands.main import cli
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.schema import load_experiments
from dfa_bench.reporting.readings import Reading, Untested, check_readings, load_readings
from dfa_bench.settings.resources import resource_folder

RECORDS = [
    {
        "rule": "dfa",
        "seed": 0,
        "data": "real",
        "score": 0.3,
        "layers": {"a.0": {"mean": [0.0, 0.2]}, "a.1": {"mean": []}},
    },
    {
        "rule": "dfa",
        "seed": 1,
        "data": "real",
        "score": 0.2,
        "layers": {"a.0": {"mean": [0.0, -0.1]}, "b": {"mean": [9]}},
    },
    {"rule": "bp", "seed": 0, "data": "real", "score": 0.1},
    {"rule": "bp", "seed": 0, "data": "stand-in", "score": 7},
    {"rule": "bp", "seed": 1, "data": "real", "score": math.nan},
]


def checked(tmp_path, records=RECORDS, **claim):
    (tmp_path / "f.json").write_text(json.dumps(records))
    reading = Reading.model_validate({"id": "c", "says": "s", "file": "f.json", **claim})
    return check_readings([reading], tmp_path)[0]


DFA, BP = ({"where": {"rule": rule}, "key": "score"} for rule in ("dfa", "bp"))


def seeds(*scores, protocol="paper"):
    about = {"rule": "dfa", "data": "real", "protocol": protocol}
    return [{**about, "seed": seed, "score": score} for seed, score in enumerate(scores)]


def test_every_number_of_several_seeds_has_to_lie_above_by_the_margin(tmp_path):
    records = seeds(0.3, 0.2, 0.4)
    found = checked(tmp_path, records, higher=DFA, lower=0.1)
    assert (found.verdict, found.protocol) == ("supported", "paper")
    assert "1 of 1 places, 3 seeds; least: dfa +0.2 [+0.1, +0.3]" in found.summary()
    assert checked(tmp_path, records, higher=DFA, lower=0.1, by=0.15).verdict == "undecided"
    assert checked(tmp_path, records, higher=DFA, lower=0.4).verdict == "contradicted"


def test_one_seed_shows_something_once_and_two_decide_nothing(tmp_path):
    assert checked(tmp_path, seeds(0.3), higher=DFA, lower=0.1).verdict == "seen once"
    assert checked(tmp_path, seeds(0.3), higher=DFA, lower=0.4).verdict == "undecided"
    assert checked(tmp_path, seeds(0.3, 0.2), higher=DFA, lower=0.1).verdict == "undecided"
    shallow = {"rule": "shallow", "data": "real", "seed": 0, "score": 0.0}
    against = {"where": {"rule": "shallow"}, "key": "score"}
    assert checked(tmp_path, [*seeds(0.3, 0.2, 0.4), shallow], higher=DFA, lower=against).verdict == "seen once"


def test_figures_of_a_reduced_protocol_do_not_refute_the_paper(tmp_path):
    found = checked(tmp_path, seeds(0.3, 0.2, 0.4, protocol="reduced"), higher=DFA, lower=0.5)
    assert (found.verdict, found.protocol) == ("contradicted at reduced scale", "reduced")


def test_what_nothing_checks_is_in_the_ledger_with_its_reason(tmp_path):
    stated = Untested(id="c", says="s", why="hours", command="dfa-bench data"), Untested(id="d", says="s", why="by eye")
    found = check_readings(stated, tmp_path)
    assert {each.verdict for each in found} == {"not tested"}
    assert [each.summary() for each in found] == ["hours; `dfa-bench data`", "by eye"]


def test_the_commands_of_what_nothing_checks_can_be_typed(say):
    commands = [each.command for each in load_readings(resource_folder("experiments")) if isinstance(each, Untested)]
    typed = [shlex.split(each)[1:] for each in commands if each]
    assert len(typed) > 5
    for name, *words in typed:
        if name == "run":  # of a sweep the first run
            first = [word.partition(",")[0] for word in words if word != "-m"]
            assert say("run", *first, "--cfg", "job")[0] == 0
        else:
            group = click.Context(cli, **cli.context_settings)  # a command keeps the help option of its first context
            command = cli.get_command(group, name)
            assert command is not None, name
            command.make_context(name, words, parent=group)  # refuses unknown options


def test_a_bar_may_be_the_mean_of_several(tmp_path):
    records = [{**each, "rule": rule} for rule, by in (("dfa", 0.0), ("bp", 0.2), ("no", -0.3)) for each in moved(by)]
    below = [{"where": {"rule": rule}, "key": "score"} for rule in ("bp", "no")]
    found = checked(tmp_path, records, higher=DFA, lower=below)
    assert found.verdict == "undecided"  # the bar is at 0.35, halfway between 0.6 and 0.1
    assert found.evidence[0].low == pytest.approx(0.2 - 0.35)
    assert checked(tmp_path, records[:6], higher=DFA, lower=below).verdict == "not tested"  # none of `no`


def moved(by: float) -> list[dict]:
    return [{**each, "score": each["score"] + by} for each in seeds(0.3, 0.2, 0.4)]


def test_stand_ins_and_nan_are_no_evidence(tmp_path):
    assert checked(tmp_path, higher=DFA, lower=BP).verdict == "seen once"  # neither the 7 nor the NaN counts


def test_a_path_of_patterns_reads_the_end_of_each_series(tmp_path):
    found = checked(tmp_path, higher={"where": {"rule": "dfa"}, "key": "layers/a.*/mean"}, lower=0)
    assert [(each.place, each.seeds, each.low, each.high) for each in found.evidence] == [("dfa a.0", 2, -0.1, 0.2)]
    assert found.verdict == "undecided"


def test_what_is_not_drawn_is_not_tested(tmp_path):
    for claim in ({"higher": {"where": {"rule": "x"}, "key": "score"}, "lower": 0}, {"higher": DFA, "lower": 0}):
        reading = Reading.model_validate({"id": "c", "says": "s", "file": "nothing.json", **claim})
        (found,) = check_readings([reading], tmp_path)
        assert (found.verdict, found.summary()) == ("not tested", "no results/nothing.json")
    assert checked(tmp_path, higher={"where": {"rule": "x"}, "key": "score"}, lower=0).verdict == "not tested"


@pytest.mark.parametrize("text", ["[{", "{}", "[1]"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    reading = Reading.model_validate({"id": "c", "says": "s", "file": "f.json", "higher": DFA, "lower": 0})
    with pytest.raises(ConfigError, match="f.json .*Draw the figure again"):
        check_readings([reading], tmp_path)


def test_the_shipped_readings_have_names_of_their_own():
    folder = resource_folder("experiments")
    names = [each.id for each in load_readings(folder)]
    names += [claim.id for each in load_experiments(folder).values() for claim in each.claims]
    assert len(set(names)) == len(names)


def test_a_mistake_names_the_file(tmp_path):
    (tmp_path / "figures.yaml").write_text("claims: [{id: x}]\n")
    with pytest.raises(ConfigError, match=r"experiments/figures\.yaml: The setting 'claims\.0\.says' is missing"):
        load_readings(tmp_path)
