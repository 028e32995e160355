"""From a recipe to an optimizer."""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import RecipeSettings
from dfa_bench.training.lazy import LazyAdam, sparse_tables


def build_optimizer(model: nn.Module, recipe: RecipeSettings, fused: bool = False) -> torch.optim.Optimizer:
    """Adam or RAdam, with weight decay on the parameters that `recipe.decay_only` names; or lazy Adam.

    Args:
        fused: one kernel updates many parameters; on CUDA.

    Raises:
        ConfigError: a pattern of `recipe.decay_only` matches no parameter, or the recipe does not go with lazy Adam.
    """
    if recipe.optimizer == "lazy_adam":
        return _lazy_adam(model, recipe)
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
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "radam":
        return torch.optim.RAdam(groups, recipe.lr, recipe.betas, recipe.eps)
    adam = torch.optim.Adam(groups, recipe.lr, recipe.betas, recipe.eps, fused=fused or None)
    adam.register_load_state_dict_pre_hook(_as_fused_as_before)
    return adam


def _as_fused_as_before(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of another device says how Adam was computed there; here it stays as it was built."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}


def _lazy_adam(model: nn.Module, recipe: RecipeSettings) -> LazyAdam:
    if recipe.weight_decay or recipe.gradient_clip is not None:
        raise ConfigError(
            "recipe.optimizer=lazy_adam supports neither recipe.weight_decay nor recipe.gradient_clip: its gradients "
            "are sparse. Set recipe.weight_decay=0 and recipe.gradient_clip=null, or recipe.optimizer=adam."
        )
    tables = sparse_tables(model)
    kept = {id(table) for table in tables}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    if not tables:
        raise ConfigError("recipe.optimizer=lazy_adam: the model has no embedding table. Set recipe.optimizer=adam.")
    return LazyAdam(tables, rest, recipe.lr, recipe.betas, recipe.eps)
