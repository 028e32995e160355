"""What all commands share: help, options in any spelling and order, suggestions, and imports that wait."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfa_bench.commands import grammar
from dfa_bench.commands.main import COMMANDS, cli
from dfa_bench.experiments import request as requests
from dfa_bench.experiments.request import Request

HEAVY = ("torch", "hydra", "pandas", "pydantic", "omegaconf", "matplotlib", "rich")
TABLE_COMMANDS = ("reproduce", "table", "claims", "results", "report", "curves", "bootstrap")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(say, name):
    for asked in ("-h", "--help"):
        code, out, err = say(name, asked)
        assert (code, err) == (0, "")
        examples = out.partition("Examples:")[2]
        assert sum(f"dfa-bench {name}" in line for line in examples.splitlines()) >= 2


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_the_program_lists_its_commands(say, arguments):
    code, out, _ = say(*arguments)
    assert code == 0
    assert all(f"  {name} " in out and help in " ".join(out.split()) for name, help in COMMANDS.items())


def test_the_version_is_told(say):
    code, out, _ = say("--version")
    assert (code, out.startswith("dfa-bench 0.")) == (0, True)


def test_a_command_that_needs_arguments_shows_its_help_without(say):
    code, out, _ = say("table")
    assert (code, out.startswith("Usage: dfa-bench table ")) == (2, True)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["tabel"], "unknown command 'tabel'. Did you mean 'table'?"),
        (["table", "tabel3"], "unknown table 'tabel3'. Did you mean 'table3'?"),
        (["reproduce", "--seeds", "2"], "Name a table."),
        (["table", "3", "--sees", "2"], "'--seeds'"),
        (["reproduce", "3", "--seeds", "none"], "'none' is not a whole number above 0"),
        (["reproduce", "3", "--skip", "Cora/Nothing"], "--skip 'Cora/Nothing' matches no cell"),
        (["figure", "alinment"], "unknown figure 'alinment'. Did you mean 'alignment'?"),
        (["figure", "1", "neighbours=perhaps"], "'perhaps' is not a valid boolean"),
        (["data", "get", "coral"], "unknown data set 'coral'. Did you mean 'cora'?"),
        (["data", "cache=/tmp"], "unknown option 'cache'"),
        (["evaluate-checkpoint", "--stride", "2"], "Name one scene"),
        (["sample", "--tokens", "3"], "Missing argument 'RUN'"),
        (["run", "model=gnc"], "unknown option 'model/gnc'. Did you mean 'gcn'?"),
        (["run", "protocol=paper", "scale=smoke"], "cannot be set"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(say, arguments, told):
    code, _, err = say(*arguments)
    assert code == (1 if "protocol=paper" in arguments else 2)
    assert err.startswith("Error: ")
    assert told in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Request]:
    """The request that a command line makes."""

    def parse(*arguments: str) -> Request:
        made: list[Request] = []
        build_request = requests.build_request

        def build(*given: Any, **chosen: Any) -> Request:
            made.append(build_request(*given, **chosen))
            raise Stop

        monkeypatch.setattr(requests, "build_request", build)
        with pytest.raises(Stop):
            cli.main(arguments, standalone_mode=False)
        monkeypatch.undo()
        return made[0]

    return parse


class Stop(Exception):
    """The request is made; nothing is run."""


@pytest.mark.parametrize("command", TABLE_COMMANDS)
def test_a_table_is_named_in_three_ways(requested, command):
    assert requested(command, "3") == requested(command, "table3") == requested(command, "table", "3")
    assert requested(command, "all").whole
    assert [each.name for each in requested(command, "first", "table", "4", "4").experiments] == [
        "first/table1",
        "first/table2",
        "first/table5",
        "table4",
    ]


@pytest.mark.parametrize("command", TABLE_COMMANDS)
def test_options_of_tables_may_be_written_as_before_and_in_any_order(requested, command):
    made = requested(command, "table3", "seeds=10", "results=out", "scale=smoke", "+model.foo=1")
    assert made == requested(command, "scale=smoke", "--seeds", "10", "+model.foo=1", "table3", "--results=out")
    assert (made.seeds, made.results, made.overrides) == (10, Path("out"), ["scale=smoke", "+model.foo=1"])


def test_options_of_reproduce_may_be_written_as_before(requested):
    old = requested("reproduce", "table3", "jobs=2", "skip=PubMed/*,*/DNAConv", "seeds=3", "data.root=/data")
    new = requested("reproduce", "3", "--jobs", "2", "--skip", "PubMed/*,*/DNAConv", "--seeds", "3", "data.root=/data")
    assert old == new
    assert (old.engine.jobs, old.skip, old.overrides) == (2, ("PubMed/*", "*/DNAConv"), ["data.root=/data"])
    assert requested("reproduce", "3", "skip=").skip == ()
    assert (requested("reproduce", "3").seeds, requested("table", "3").seeds) == (1, 0)


def test_the_value_of_an_option_is_not_taken_for_another_option():
    command = cli.get_command(None, "sample")
    context = command.make_context("sample", ["RUN", "--prompt", "seed=3", "tokens=5"])
    assert (context.params["prompt"], context.params["seed"], context.params["tokens"]) == ("seed=3", 0, 5)


@pytest.mark.parametrize(
    "old, new",
    [
        (["1", "scenes=lego,fern", "neighbours=no"], ["--neighbours", "no", "1", "--scenes", "lego,fern"]),
        (["alignment", "models=gcn"], ["alignment", "--models", "gcn"]),
        (["figure", "2", "results=out", "seed=3"], ["figure", "2", "seed=3", "--results", "out"]),
    ],
)
def test_options_of_figures_may_be_written_as_before(old, new):
    command = cli.get_command(None, "figure")
    assert command.make_context("figure", old).params == command.make_context("figure", new).params


def test_names_and_overrides_are_told_apart():
    words = ["table3", "scale=smoke", "+model.foo=1", "~logger", "studies"]
    assert grammar.split(words) == (["table3", "studies"], ["scale=smoke", "+model.foo=1", "~logger"])


def loaded(*arguments: str) -> set[str]:
    """The heavy packages that are imported once a command has ended."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded', *{{*{HEAVY}}}.intersection(sys.modules), file=sys.stderr))\n"
        "from dfa_bench.commands.main import main\n"
        f"main({list(arguments)})"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    return set(told.splitlines()[-1].split()) - {"loaded"}


def test_the_list_of_commands_imports_none_of_them():
    for arguments in (["--help"], ["--version"], ["tabel"]):
        assert loaded(*arguments) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_loads_pytorch(name):
    assert "torch" not in loaded(name, "--help")


def test_an_unknown_table_is_told_without_composing_anything():
    assert loaded("table", "tabel3") <= {"pydantic", "omegaconf"}


def completed(shell: str, words: list[str]) -> set[str]:
    """What the shell is offered for the last of the words, as its script asks."""
    asked = {
        "_DFA_BENCH_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "from dfa_bench.commands.main import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {line.partition(",")[2] for line in told} if shell == "bash" else set(told[1::3])


@pytest.mark.parametrize(
    "shell, words, expected",
    [
        ("bash", ["dfa-bench", "re"], {"reproduce", "results", "report", "render"}),
        ("zsh", ["dfa-bench", "figure", "al"], {"alignment"}),
        ("bash", ["dfa-bench", "reproduce", "--s"], {"--seeds", "--skip"}),
        ("bash", ["dfa-bench", "table", "--seeds", "3", "studies/l"], {"studies/lazy_adam", "studies/linear_term"}),
        ("bash", ["dfa-bench", "run", "model", "=", "g"], {"gae", "gat", "gcn"}),
        ("bash", ["dfa-bench", "run", "model", "=", "gcn", "trainer.max_e"], {"trainer.max_epochs="}),
        ("zsh", ["dfa-bench", "run", "-m", "model=g"], {"model=gae", "model=gat", "model=gcn"}),
    ],
)
def test_the_shell_completes_commands_options_tables_and_hydras_settings(shell, words, expected):
    assert completed(shell, words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(say, shell):
    code, out, _ = say("completion", shell)
    assert (code, f"_DFA_BENCH_COMPLETE={shell}_complete" in out) == (0, True)


def test_hydras_own_completion_still_answers(say, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "dfa-bench run model=g")
    code, out, _ = say("-sc", "query=bash")
    assert (code, set(out.split())) == (0, {"model=gae", "model=gat", "model=gcn"})
