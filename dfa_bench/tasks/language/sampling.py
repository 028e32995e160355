"""Text from a trained language model, token by token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfa_bench.tasks.language.tokenizer import END_OF_LINE, UNKNOWN, LowerCasedTokenizer


@torch.no_grad()
def continue_text(
    model: nn.Module,
    tokenizer: LowerCasedTokenizer,
    prompt: str,
    tokens: int,
    context: int,
    temperature: float,
    generator: torch.Generator,
) -> str:
    """A prompt, lower-cased as in training, and what follows.

    Args:
        model: (1, T) tokens to (1, T, vocabulary) logits; in evaluation mode.
        tokenizer: the one that the model was trained with.
        prompt: may be empty: the text then starts a line.
        tokens: how many follow.
        context: the model sees at most so many.
        temperature: divides the logits; 1 samples from the model's distribution.
        generator: of the draws.
    """
    end = tokenizer.ids[END_OF_LINE]
    ids: list[int] = [end, *tokenizer.encode(prompt)]
    for _ in range(tokens):
        logits: Tensor = model(torch.tensor([ids[-context:]]))[0, -1]  # (vocabulary,)
        logits -= logits.max()  # which no temperature makes overflow
        ids.append(int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)))
    lines: list[list[int]] = [[]]
    for token in ids[1:]:
        if token == end:
            lines.append([])
        else:
            lines[-1].append(token)
    texts = (tokenizer.decode(line) for line in lines)
    return "\n".join(text.replace(UNKNOWN, f" {UNKNOWN}").strip() for text in texts)  # it had swallowed the space
