"""`dfa-bench sample`: text from a finished run."""

from pathlib import Path

import pytest
import torch

from dfa_bench.commands.sample import command
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.runs.record import Record
from dfa_bench.tasks.language.tokenizer import train_byte_pairs
from dfa_bench.training.execute import execute
from tests.language.conftest import LINES, write_text

LANGUAGE = ("task=language", "dataset=wikitext-2", "model=transformer", "trainer.max_tokens=256")


@pytest.fixture
def run(smoke) -> str:
    return str(execute(smoke(*LANGUAGE)).folder)


def sample(*arguments: str) -> int:
    return command.main(arguments, standalone_mode=False)


def sampled(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert sample(*arguments) == 0
    return capsys.readouterr().out


def test_the_prompt_is_lower_cased_and_goes_on_the_same_way_for_one_seed(run, capsys):
    arguments = (run, "--prompt", "A class IS", "--tokens", "20")
    first, again, other = (sampled(capsys, *arguments, "--seed", seed) for seed in "001")
    assert first.startswith("a class is")
    assert len(first) > len("a class is\n")
    assert first == again != other


def test_a_tokenizer_of_another_size_is_refused(run, tmp_path):
    path = tmp_path / "tokenizer.json"
    train_byte_pairs(LINES["train"], 280).save(str(path))
    with pytest.raises(ConfigError, match=r"has \d+ tokens, but the model of .* was trained with \d+"):
        sample(run, "--tokenizer", str(path))


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_refused(run, tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"is not a tokenizer.json"):
        sample(run, "--tokenizer", str(path))


def test_runs_of_other_tasks_have_no_text(smoke):
    folder = str(execute(smoke()).folder)
    with pytest.raises(ConfigError, match="is a run of task=nodes; only runs of task=language can be sampled"):
        sample(folder)


def test_runs_of_other_language_models_are_told(run):
    path = Record(Path(run)).model
    parts = torch.load(path)
    parts["model"]["head.weight"] = parts["model"].pop("vocabulary.weight")
    torch.save(parts, path)
    with pytest.raises(ConfigError, match="is a run of model=transformer, which has no vocabulary.weight; only runs"):
        sample(run)
    path.unlink()
    with pytest.raises(ConfigError, match="is not the record of a finished run"):
        sample(run)


def test_a_corpus_of_another_version_makes_another_tokenizer(tmp_path):
    root = tmp_path / "root"
    write_text(root / "wikitext-2")
    small = "scale=cpu", "trainer.accelerator=cpu", "task.vocabulary=300", "task.streams=4", "task.context=8"
    tiny = "model.layers=1", "model.width=16", "model.heads=2", "trainer.max_epochs=1"
    where = f"data.root={root}", f"data.cache={tmp_path}/cache", "data.download=false", f"store.root={tmp_path}/runs"
    settings = run_settings([*LANGUAGE, "rule=bp", *small, *tiny, *where])
    folder = str(execute(settings).folder)
    assert sample(folder, "--tokens", "3", "--temperature", "1e-40") == 0
    write_text(root / "wikitext-2", LINES | {"train": LINES["train"][::-1]})
    with pytest.raises(ConfigError, match="a different version of WikiText-2 from the one found here"):
        sample(folder)


@pytest.mark.parametrize(
    "option",
    [
        ["--temperature", "0"],
        ["--tokens", "0"],
        ["--temperature", "nan"],
        ["--seed", str(10**20)],
        ["--prompt", "caf\udce9"],
    ],
)
def test_impossible_options_are_told(say, run, option):
    code, _, err = say("sample", run, *option)
    assert (code, option[0] in err) == (2, True)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(ConfigError, match="is not the record of a finished run"):
        sample(str(tmp_path))
