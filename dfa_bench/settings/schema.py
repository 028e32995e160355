"""The typed form of a composed configuration: what a key means, what it may be, and what goes with what.

Hydra composes `configs/` into plain values; `RunSettings.model_validate` refuses unknown keys and impossible values.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dfa_bench.errors import ConfigError, did_you_mean
from dfa_bench.settings.rules import FACTS, RuleEntry, RuleName, rules
from dfa_bench.settings.trust import check_targets

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Variant = Literal["released", "paper", "clean"]
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # of a user's data set: folders of records are named after it


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Component(BaseModel):
    """A class to build, as Hydra writes it: `_target_` is its dotted name, further keys are its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    target: str = Field(alias="_target_")
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelSettings(Component):
    tasks: list[str]  # that it can be trained on


class DatasetSettings(Component):
    tasks: list[str]  # that it can be used for


class RuleSettings(BaseModel):
    """A rule and its own settings, which are checked where the rule is built; what it is called, the registry says."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: RuleName

    @model_validator(mode="before")
    @classmethod
    def _without_facts(cls, values: Any) -> Any:
        """Hydra composes the whole file of a rule: facts about it are taken off, and refused if they are others."""
        if not isinstance(values, dict) or (entry := rules().get(str(values.get("name")))) is None:
            return values
        facts = entry.model_dump(mode="json", by_alias=True)
        for key in FACTS & values.keys():
            if values[key] != facts[key]:
                raise ValueError(f"rule.{key}={values[key]}: it is fixed by configs/rule/{entry.name}.yaml.")
        return {key: value for key, value in values.items() if key not in FACTS}

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def entry(self) -> RuleEntry:
        return rules()[self.name]


class PathSettings(Strict):
    points: list[str]
    error_at: str | None = None
    cuts: list[str] = []
    batch_axes: Count | None = None
    first_of_tuple: bool = False
    normalised: bool = False


class ScheduleSettings(Strict):
    """How the learning rate goes; `recipe.lr` is its highest value."""

    name: Literal["constant", "exponential", "inverse_sqrt", "plateau", "one_cycle"] = "constant"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1  # exponential: per `steps` steps; plateau: at each plateau
    steps: Count | None = None  # exponential: in which the rate falls by `factor`; inverse_sqrt: of the rising part
    warmup: Annotated[float, Field(gt=0, le=1)] | None = None  # inverse_sqrt: rising part as a fraction, if not `steps`
    patience: Annotated[int, Field(ge=0)] = 1  # plateau: evaluations without a better value before the rate falls

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> ScheduleSettings:
        if self.name == "exponential" and self.steps is None:
            raise ValueError("recipe.schedule.name=exponential needs recipe.schedule.steps.")
        if self.name == "inverse_sqrt" and (self.steps is None) == (self.warmup is None):
            raise ValueError(
                "recipe.schedule.name=inverse_sqrt needs recipe.schedule.steps or recipe.schedule.warmup, and not both."
            )
        return self


class RecipeSettings(Strict):
    of: str = ""  # the rule whose hyperparameters these are; the other settings spell them out
    optimizer: Literal["adam", "radam", "lazy_adam"] = "adam"
    lr: Positive
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    decay_only: list[str] = ["*"]  # patterns of the parameters that weight decay touches
    gradient_clip: Positive | None = None  # norm
    schedule: ScheduleSettings = ScheduleSettings()


class TrainerSettings(Strict):
    max_epochs: Count
    max_tokens: Count | None = None  # language: budget of the whole training, spread over the epochs
    # Which weights are tested: of the first epoch with the best validation metric, or of the last epoch;
    # best_if_stopped: the best ones if patience ran out, else the last.
    keep: Literal["best", "last", "best_if_stopped"] = "best"
    patience: Count | None = None  # epochs without a better validation metric before training stops
    evaluate_every: Count = 1  # epochs
    alignment_every: Count | None = None  # epochs between measurements of the rule's alignment with BP; null: none
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    tf32: bool = False  # CUDA: factors of float32 products are rounded to 10 bits
    compile: bool = False  # by torch.compile
    capture: bool | Literal["auto"] = False  # the step as one CUDA graph; auto: where it is possible
    data_on_device: bool = True  # CUDA: batches are made there, if the data fit
    devices: Count = 1
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Count | None = None  # of PyTorch on the CPU; null: its default
    checkpoint_seconds: NotNegative = 10.0  # at most this much work is lost when a run is killed; 0: every epoch
    progress: Literal["auto", "none"] = "auto"


class DataSettings(Strict):
    root: str | None = None
    cache: str | None = None
    download: bool = True
    large: bool = False  # archives over 100 MB too
    stand_in: bool = False


class StoreSettings(Strict):
    root: str = "runs"


class LoggerSettings(Strict):
    name: Literal["none", "wandb"] = "none"
    project: str = "dfa-bench"
    entity: str | None = None
    mode: Literal["online", "offline", "disabled"] = "online"
    tags: list[str] = []  # besides task, table, variant and scale


class RunSettings(Strict):
    """Everything that one run is made of."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    task: Component
    dataset: DatasetSettings
    model: ModelSettings
    rule: RuleSettings
    feedback: list[PathSettings]
    recipe: RecipeSettings
    trainer: TrainerSettings
    variant: Variant = "released"
    scale: Literal["smoke", "cpu", "gpu", "paper"]
    protocol: Literal["paper", "reduced"]
    data: DataSettings = DataSettings()
    store: StoreSettings = StoreSettings()
    logger: LoggerSettings = LoggerSettings()
    force: bool = False

    @model_validator(mode="after")
    def _parts_go_together(self) -> RunSettings:
        for part, component in (("model", self.model), ("dataset", self.dataset)):
            if self.task.name not in component.tasks:
                raise ValueError(
                    f"{part}={component.name} does not fit task={self.task.name}: it is for "
                    f"task={' or task='.join(component.tasks)}."
                )
        return self

    @model_validator(mode="after")
    def _budget_has_a_use(self) -> RunSettings:
        if self.trainer.max_tokens is not None and "max_tokens" not in self.task.arguments:
            raise ValueError(
                f"trainer.max_tokens={self.trainer.max_tokens}: task={self.task.name} does not count tokens. "
                f"Set trainer.max_epochs."
            )
        return self


def parse_settings(values: Mapping[str, Any]) -> RunSettings:
    """Check a composed configuration.

    Raises:
        ConfigError: naming each key that is unknown or has an impossible value.
        Untrusted: a class is named of a package that is not trusted.
    """
    check_targets(values)
    try:
        return RunSettings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def unknown_setting(key: str) -> str:
    close = did_you_mean(key, setting_names(RunSettings))
    return f"unknown setting '{key}'.{close} `dfa-bench run --cfg job` lists all settings."


def setting_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The settings that every run has, as dotted keys: "seed", "trainer.max_epochs"."""
    names = []
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


ONE_OF_SEVERAL = re.compile(r"(constrained-)?(bool|int|float|str)|literal\[.*\]")


def explain(error: ValidationError, prefix: str = "") -> str:
    """A validation error in one sentence per mistake: the key, the value, what is expected."""
    return "\n".join(_sentence(mistake, prefix) for mistake in _merged(error.errors()))


def _merged(mistakes: Sequence[Any]) -> list[Any]:
    """What pydantic tells for each kind of value that a setting may have ("int", "literal['auto']"), told once."""
    merged: dict[tuple[Any, ...], Any] = {}
    for mistake in mistakes:
        *place, kind = mistake["loc"] or ("",)
        if not ONE_OF_SEVERAL.fullmatch(str(kind)):
            merged[(*mistake["loc"], len(merged))] = mistake
            continue
        expected = mistake["msg"].split(",")[0]
        if (before := merged.get(tuple(place))) is not None:
            expected = f"{before['msg']} or {expected.removeprefix('Input should be ')}"
        merged[tuple(place)] = {**mistake, "loc": tuple(place), "msg": expected}
    return [*merged.values()]


def _sentence(mistake: Any, prefix: str) -> str:
    key = ".".join(str(part) for part in (*prefix.split("."), *mistake["loc"]) if str(part))
    if mistake["type"] == "value_error":
        return str(mistake["ctx"]["error"])
    if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_setting(key)
    if mistake["type"] in ("missing", "missing_argument"):
        return f"The setting '{key}' is missing. Give it as {key}=VALUE."
    return f"{key}={mistake['input']}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}."
