"""From a recipe to an optimizer."""

from __future__ import annotations

import fnmatch

import torch
from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings import RecipeSettings


def build_optimizer(model: nn.Module, recipe: RecipeSettings) -> torch.optim.Optimizer:
    """Adam, with weight decay on the parameters that `recipe.decay_only` names.

    Raises:
        ConfigError: a pattern of `recipe.decay_only` matches no parameter.
    """
    named = list(model.named_parameters())
    for pattern in recipe.decay_only:
        if not any(fnmatch.fnmatchcase(name, pattern) for name, _ in named):
            raise ConfigError(
                f"recipe.decay_only: '{pattern}' matches no parameter. The model has: {', '.join(n for n, _ in named)}."
            )
    decayed = [p for name, p in named if any(fnmatch.fnmatchcase(name, pattern) for pattern in recipe.decay_only)]
    kept = {id(parameter) for parameter in decayed}
    plain = [parameter for _, parameter in named if id(parameter) not in kept]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.Adam([group for group in groups if group["params"]], recipe.lr, recipe.betas, recipe.eps)
