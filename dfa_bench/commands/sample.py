"""`dfa-bench sample`: continue a prompt with a trained Transformer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import COUNT, FILE, RUN, Command
from dfa_bench.errors import ConfigError

if TYPE_CHECKING:
    from dfa_bench.settings.schema import RunSettings
    from dfa_bench.tasks.language.tokenizer import LowerCasedTokenizer

PROJECTION = "vocabulary.weight"  # of the Transformer, to its tokens


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench sample runs/language-wikitext-2-transformer-dfa-s0-0123456789abcdef
    dfa-bench sample RUN --prompt "The castle was built in" --tokens 50 --temperature 0.5
    """,
)
@RUN
@click.option("--prompt", default="", metavar="TEXT", help="The text to continue (default: the start of a line).")
@click.option("--tokens", type=COUNT, default=100, show_default=True, help="Number of tokens to add.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="Below 1 prefers likely tokens.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the sampling.")
@click.option(
    "--tokenizer", type=FILE, help="tokenizer.json of the run (default: trained again on the corpus, or cached)."
)
def command(run: Path, prompt: str, tokens: int, temperature: float, seed: int, tokenizer: Path | None) -> int:
    """Continue a prompt, lower-cased as in training, with the Transformer of a finished run of task=language.

    RUN is the folder of its record, the last line that `dfa-bench run` prints.
    """
    if not temperature > 0:
        raise ConfigError(f"--temperature {temperature}: give a number above 0; near 0 gives the likeliest text.")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"--seed {seed}: give a whole number from 0 to 2**63 - 1.")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise ConfigError("--prompt is not UTF-8.")
    print(continuation(run, prompt, tokens, temperature, seed, tokenizer))
    return 0


def continuation(
    run: Path, prompt: str, tokens: int, temperature: float, seed: int, tokenizer_file: Path | None
) -> str:
    """The prompt and the text that follows it.

    Raises:
        ConfigError: the folder is not a finished run of task=language and model=transformer, or the tokenizer is not
            the one of its training.
        RecordError: the record is damaged.
        MissingData: the corpus that the tokenizer is trained on is not here.
    """
    import torch

    from dfa_bench.tasks.base import build
    from dfa_bench.tasks.language.sampling import continue_text
    from dfa_bench.training.finished import settings_of_record, trained_parts

    settings = settings_of_record(run)
    if settings.task.name != "language":
        raise ConfigError(f"{run} is a run of task={settings.task.name}; only runs of task=language can be sampled.")
    weights = trained_parts(run)["model"]
    if PROJECTION not in weights:
        raise ConfigError(
            f"{run} is a run of model={settings.model.name}, which has no {PROJECTION}; only runs of "
            f"model=transformer can be sampled."
        )
    vocabulary = len(weights[PROJECTION])
    tokenizer = _read(tokenizer_file) if tokenizer_file else _tokenizer_of(settings, run)
    if len(tokenizer.texts) != vocabulary:
        which = tokenizer_file or "of the corpus found here"
        raise ConfigError(
            f"The tokenizer {which} has {len(tokenizer.texts)} tokens, but the model of {run} was "
            f"trained with {vocabulary}. Give the tokenizer of that run with --tokenizer FILE."
        )
    model = build(settings.model, "model", vocabulary=vocabulary)
    model.load_state_dict(weights)
    model.eval()
    context = settings.task.arguments["context"]
    generator = torch.Generator().manual_seed(seed)
    return continue_text(model, tokenizer, prompt, tokens, context, temperature, generator)


def _tokenizer_of(settings: RunSettings, folder: Path) -> LowerCasedTokenizer:
    """Trained again on the corpus found here, if it is the one that the run was trained on."""
    from dfa_bench.runs.record import Record
    from dfa_bench.tasks.base import build_task, data_card
    from dfa_bench.tasks.language.task import LanguageModelling

    result = Record(folder).read_result()
    if result is not None and data_card(settings).sha256 != result.data_sha256:
        raise ConfigError(
            f"{folder} was trained on a different version of {result.dataset} from the one found here, and so was its "
            f"tokenizer. Restore those files, or give the tokenizer with --tokenizer FILE."
        )
    task = build_task(settings)
    assert isinstance(task, LanguageModelling)
    return task.corpus.tokenizer


def _read(path: Path) -> LowerCasedTokenizer:
    from tokenizers import Tokenizer

    from dfa_bench.tasks.language.tokenizer import END_OF_LINE, LowerCasedTokenizer

    try:
        pairs = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises plain Exceptions
        raise ConfigError(f"--tokenizer {path} is not a tokenizer.json of Hugging Face tokenizers: {error}.") from error
    if pairs.token_to_id(END_OF_LINE) is None:
        raise ConfigError(f"--tokenizer {path} has no token {END_OF_LINE}: dfa-bench did not write it.")
    return LowerCasedTokenizer(pairs)
