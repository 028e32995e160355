"""`dfa-bench sample`: text that a finished run of language modelling goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from dfa_bench.commands.arguments import Arguments, positive
from dfa_bench.errors import ConfigError
from dfa_bench.runs.record import Record
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build, build_task, data_card
from dfa_bench.tasks.language.sampling import continue_text
from dfa_bench.tasks.language.task import LanguageModelling
from dfa_bench.tasks.language.tokenizer import END_OF_LINE
from dfa_bench.training.finished import settings_of_record, trained_parts


def main(arguments: Sequence[str]) -> int:
    """Print the prompt and what the model goes on with.

    Raises:
        ConfigError: the folder is no finished run of task=language, the tokenizer is another one than the model was
            trained with, or an option is impossible.
        RecordError: the record is damaged.
        MissingData: the corpus that the tokenizer is made from is not here.
    """
    parser = Arguments("sample")
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--tokens", type=positive, default=100)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path)
    chosen = parser.parse_args(list(arguments))
    if not chosen.temperature > 0:
        raise ConfigError(f"--temperature {chosen.temperature}: give a number above 0; near 0 is the likeliest text.")
    if not 0 <= chosen.seed < 2**63:
        raise ConfigError(f"--seed {chosen.seed}: give a whole number from 0 to 2**63 - 1.")
    if any("\ud800" <= letter <= "\udfff" for letter in chosen.prompt):
        raise ConfigError("--prompt is not UTF-8.")
    settings = settings_of_record(chosen.run)
    if settings.task.name != "language":
        raise ConfigError(f"{chosen.run} is a run of task={settings.task.name}; only task=language has text to sample.")
    tokenizer = _read(chosen.tokenizer) if chosen.tokenizer else _tokenizer_of(settings, chosen.run)
    weights = trained_parts(chosen.run)["model"]
    vocabulary = len(weights["vocabulary.bias"])
    if tokenizer.get_vocab_size() != vocabulary:
        which = chosen.tokenizer or "of the corpus that is here"
        raise ConfigError(
            f"The tokenizer {which} has {tokenizer.get_vocab_size()} tokens, the model of {chosen.run} was trained "
            f"with {vocabulary}. Give its own one with --tokenizer FILE."
        )
    model = build(settings.model, "model", vocabulary=vocabulary)
    model.load_state_dict(weights)
    model.eval()
    context = settings.task.arguments["context"]
    generator = torch.Generator().manual_seed(chosen.seed)
    print(continue_text(model, tokenizer, chosen.prompt, chosen.tokens, context, chosen.temperature, generator))
    return 0


def _tokenizer_of(settings: RunSettings, folder: Path) -> Tokenizer:
    """Made again from the corpus that is here, if it is the one that the run was trained on."""
    result = Record(folder).read_result()
    if result is not None and data_card(settings).sha256 != result.data_sha256:
        raise ConfigError(
            f"{folder} was trained on another version of {result.dataset} than the one that is here, and its tokenizer "
            f"was made from that. Set data.root's files back, or give its tokenizer with --tokenizer FILE."
        )
    task = build_task(settings)
    assert isinstance(task, LanguageModelling)
    return task.corpus.tokenizer


def _read(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises plain Exceptions
        raise ConfigError(f"--tokenizer {path} is no tokenizer.json of Hugging Face tokenizers: {error}.") from error
    if tokenizer.token_to_id(END_OF_LINE) is None:
        raise ConfigError(f"--tokenizer {path} has no token {END_OF_LINE}: it is not one of dfa-bench.")
    return tokenizer
