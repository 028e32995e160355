"""What to log while a model learns, as numbers by name: alignment with BP, and norms of weights and gradients."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dfa_bench.feedback.alignment import alignment
from dfa_bench.feedback.attachment import Attachment


def measure(attached: Attachment, backward: Callable[[], object]) -> dict[str, float]:
    """Alignment and norms of every layer, for any logger.

    >>> if step % 100 == 0:  # between backward() and the optimizer's step, so that gradients are there
    ...     wandb.log(measure(attached, lambda: loss(model(inputs), targets).backward()), step)

    Args:
        attached, backward: as in `alignment`, which runs one more forward and backward by the rule, and one by BP, and
            leaves no trace.

    Returns:
        `alignment/MODULE`: cosine between the gradients at its output by the rule and by BP, mean over rows.
        `weight_alignment/PARAMETER`, `norm_ratio/PARAMETER`: cosine of the two gradients, and the norm of the rule's
        divided by that of BP's. And what `norms` returns.

    Raises: see `alignment`.
    """
    measured = alignment(attached, backward)
    found = {f"alignment/{name}": rows.mean for name, rows in measured.paper.items()}
    found |= {f"weight_alignment/{name}": pair.cosine for name, pair in measured.weights.items()}
    found |= {f"norm_ratio/{name}": pair.norm_ratio for name, pair in measured.weights.items()}
    return found | norms(attached.model)


def norms(model: nn.Module) -> dict[str, float]:
    """`norm/PARAMETER` of each parameter that is trained, and `gradient_norm/PARAMETER` of each `.grad` there is."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    found = {f"norm/{name}": float(parameter.detach().norm()) for name, parameter in trained}
    gradients = [(name, parameter.grad) for name, parameter in trained]
    return found | {
        f"gradient_norm/{name}": float(gradient.norm()) for name, gradient in gradients if gradient is not None
    }
