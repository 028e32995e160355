"""Language modelling (Table 5): predict the next token."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, ValidationError, validate_call
from torch import Tensor, nn

from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.settings.schema import Component, Count, DatasetSettings, DataSettings
from dfa_bench.tasks.base import ALONE, Shard, Split, Watch, build
from dfa_bench.tasks.language.datasets import CorpusDataset
from dfa_bench.tasks.language.perplexity import perplexities
from dfa_bench.tasks.language.tokenizer import TokenisedCorpus, tokenised
from dfa_bench.tasks.language.windows import Chunks, TokenBatch, Windows, window_count


class LanguageModelling:
    """Predict the next token of a text in byte-pair encoding.

    An epoch is a pass over the training text; or, with a budget of tokens, an equal share of the budget, which goes on
    in the text where the last epoch stopped. The paper's number is the best validation perplexity.

    Args:
        dataset, model, data, seed: see `base.Task`.
        vocabulary: of the tokenizer, before tokens are lower-cased.
        tokenizer_from: the corpus that the tokenizer is trained on; None: the training split.
        streams: parallel streams that the text is cut into, over all processes together: the batch.
        context: tokens of a window.
        shuffle: chunks of the text in a new random order each epoch, instead of streams in successive windows.
        max_tokens: budget of the whole training; None: whole passes.
        epochs: over which the budget is spread.
        val_tokens: at most so many, from the start of the validation split, are looked at after each epoch; None: all.
    """

    version: ClassVar[int] = 2  # 1 lower-cased before it cut into tokens, with other initial values and plateaus
    watch: ClassVar[Watch] = Watch("loss", "lower")
    table: ClassVar[str] = "Table 5"
    batch_sizes: ClassVar[tuple[str, ...]] = ("streams", "context")

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        dataset: CorpusDataset,
        model: Component,
        data: DataSettings,
        seed: int,
        vocabulary: Count,
        tokenizer_from: Any,  # told below if it is no data set
        streams: Count,
        context: Count,
        shuffle: bool,
        max_tokens: Count | None,
        epochs: Count,
        val_tokens: Count | None,
    ) -> None:
        self.corpus = tokenised_corpus(dataset, tokenizer_from, vocabulary, data)
        self.model, self.seed = model, seed
        self.streams, self.context, self.shuffle, self.val_tokens = streams, context, shuffle, val_tokens
        positions = model.arguments.get("positions")
        if isinstance(positions, int) and context > positions:
            raise ConfigError(f"task.context={context} is more than the model has: raise model.positions={positions}.")
        self.ids: np.ndarray | Tensor = self.corpus.splits["train"].ids
        if val_tokens is not None and val_tokens < 2 * streams:
            raise ConfigError(f"task.val_tokens={val_tokens} is less than two tokens for each of {streams} streams.")
        for split, text in self.corpus.splits.items():
            needed = streams * (context + 1) if split == "train" else 2 * streams
            if len(text.ids) < needed:
                raise CorruptData(
                    f"{dataset.name}: the {split} split has {len(text.ids)} tokens, fewer than the {needed} of one "
                    f"batch. Lower task.streams={streams} or task.context={context}, or use another corpus."
                )
        self.steps = window_count(len(self.ids), streams, context)
        self.budgeted = max_tokens is not None
        if max_tokens is not None:
            self.steps = max_tokens // (epochs * streams * context)
            if self.steps == 0:
                raise ConfigError(
                    f"trainer.max_tokens={max_tokens} is less than a batch of {streams} x {context} tokens in each of "
                    f"{epochs} epochs. Raise it, or lower trainer.max_epochs, task.streams or task.context."
                )

    def build_model(self) -> nn.Module:
        model: nn.Module = build(self.model, "model", vocabulary=self.corpus.vocabulary)
        return model

    def example(self) -> object:
        return torch.zeros(1, 2, dtype=torch.long)

    def batches(self, epoch: int, shard: Shard) -> Windows | Chunks:
        share = shard.part_of(self.streams, "task.streams")
        if self.shuffle:
            chunks, generator = (len(self.ids) - 1) // self.context, np.random.default_rng([self.seed, epoch])
            batches = self.steps if self.budgeted else min(self.steps, chunks // self.streams)
            drawn = generator.permutation(chunks)
            while len(drawn) < batches * self.streams:  # a budget of more than a pass
                drawn = np.concatenate([drawn, generator.permutation(chunks)])
            return Chunks(self.ids, drawn[shard.rank : batches * self.streams : shard.of], share, self.context)
        whole = window_count(len(self.ids), self.streams, self.context)
        start = (epoch - 1) * self.steps
        order = [(start + step) % whole for step in range(self.steps)]
        mine = slice(shard.rank * share, (shard.rank + 1) * share)
        return Windows(self.ids, self.streams, self.context, order, mine)

    def data_bytes(self) -> int:
        return len(self.ids) * torch.int32.itemsize

    def move_data(self, device: torch.device) -> None:
        self.ids = torch.as_tensor(np.asarray(self.ids, dtype=np.int32)).to(device)

    def loss(self, model: nn.Module, batch: TokenBatch) -> Tensor:
        """Mean cross-entropy over the tokens of a batch, in nats."""
        if getattr(model, "takes_targets", False):
            loss: Tensor = model(batch.inputs, batch.targets)
            return loss
        return F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())

    def evaluate(self, model: nn.Module, split: Split, shard: Shard = ALONE) -> dict[str, float]:
        limit = self.val_tokens if split == "val" else None
        return perplexities(model, self.corpus.splits[split], self.streams, self.context, limit, shard)


def tokenised_corpus(
    dataset: CorpusDataset, tokenizer_from: Any, vocabulary: int, data: DataSettings
) -> TokenisedCorpus:
    """The tokens of a data set; see `tokenised`."""
    corpus = dataset.load(data)
    source = corpus
    if tokenizer_from is not None and not data.stand_in:
        source = _dataset(tokenizer_from).load(data)
    return tokenised(corpus, source, vocabulary, data)


def _dataset(chosen: object) -> CorpusDataset:
    try:
        settings = DatasetSettings.model_validate(chosen)
    except ValidationError:
        raise ConfigError(
            f"task.tokenizer_from={chosen} is not a data set. Choose one by dataset@task.tokenizer_from=wikitext-2, or "
            f"null for the training split."
        ) from None
    found: CorpusDataset = build(settings, "task.tokenizer_from", name=settings.name)
    return found
