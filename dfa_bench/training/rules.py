"""From the settings of a rule and its paths to the rule itself."""

from __future__ import annotations

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule, Shallow
from dfa_bench.settings.schema import PathSettings, RuleSettings


def build_rule(settings: RuleSettings) -> Rule:
    if settings.name == "bp":
        return Backprop()
    if settings.name == "shallow":
        return Shallow()
    return DirectFeedback(settings.seed, settings.distribution, settings.scale, settings.shared)


def build_path(settings: PathSettings) -> FeedbackPath:
    return FeedbackPath(**settings.model_dump())
