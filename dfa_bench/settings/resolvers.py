"""What `${by_rule:...}` and `${tuned:...}` in `configs/` mean."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dfa_bench.settings.resources import resource_folder

FALLBACKS = ("dfa", "bp")  # whose hyperparameters a rule gets that has none of its own


def by_rule(choices: Mapping[str, Any], *, _root_: DictConfig) -> Any:
    """`${by_rule:{bp: 5e-4, dfa: 1e-4}}`: the value for the rule of `recipe.of`, else DFA's, else BP's.

    Raises:
        ValueError: there is none of them.
    """
    wanted = (str(_root_.recipe.of), *FALLBACKS)
    for rule in wanted:
        if rule in choices:
            return choices[rule]
    raise ValueError(f"None of {', '.join(wanted)} is among {', '.join(choices)}.")


def tuned(table: str, *, _root_: DictConfig) -> Any:
    """`${tuned:table2}`: the learning rate of a model, variant and rule from `experiments/table2.tuned.yaml`.

    A variant that is not there gets the released one's.

    Raises:
        ValueError: the file does not have the model.
    """
    rates = _tuned(table)
    if _root_.model.name not in rates:
        raise ValueError(f"experiments/{table}.tuned.yaml has no rates of model={_root_.model.name}.")
    variants = rates[_root_.model.name]
    return by_rule(variants.get(str(_root_.variant), variants["released"]), _root_=_root_)


@functools.cache
def _tuned(table: str) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    values = OmegaConf.to_container(OmegaConf.load(resource_folder("experiments") / f"{table}.tuned.yaml"))
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def register() -> None:
    """Make them known to OmegaConf, in this process. Harmless when called twice."""
    for resolver in (by_rule, tuned):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
