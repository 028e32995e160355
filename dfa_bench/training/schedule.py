"""Learning rates over training, by PyTorch's own schedulers."""

from __future__ import annotations

from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from dfa_bench.settings.schema import ScheduleSettings
from dfa_bench.tasks.base import Watch


class Schedule:
    """A constant rate; the other schedules change it after steps or after evaluations."""

    def after_step(self) -> None:
        pass

    def after_evaluation(self, value: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class StepSchedule(Schedule):
    """The rate is a function of the number of steps taken."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler

    def after_step(self) -> None:
        self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


class PlateauSchedule(Schedule):
    """The rate falls when the validation metric stops getting better."""

    def __init__(self, scheduler: ReduceLROnPlateau) -> None:
        self._scheduler = scheduler

    def after_evaluation(self, value: float) -> None:
        self._scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


def build_schedule(optimizer: Optimizer, settings: ScheduleSettings, total_steps: int, watch: Watch) -> Schedule:
    """The schedule of a run.

    Args:
        optimizer: with the recipe's rate, the highest of the schedule.
        total_steps: of the whole training, which `warmup` is a fraction of and which one cycle is as long as.
        watch: the metric whose plateau counts.
    """
    if settings.name == "constant":
        return Schedule()
    if settings.name == "plateau":
        mode: Literal["min", "max"] = "max" if watch.better == "higher" else "min"
        # PyTorch's threshold, as in the released code: an improvement by less than a ten-thousandth does not count.
        return PlateauSchedule(ReduceLROnPlateau(optimizer, mode, settings.factor, settings.patience))
    if settings.name == "one_cycle":
        # The released code steps it once an epoch, with the loss for a step number: its rate stays at a 25th.
        return StepSchedule(OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps))
    if settings.name == "exponential":
        assert settings.steps is not None
        factor, span = settings.factor, settings.steps
        return StepSchedule(LambdaLR(optimizer, lambda step: factor ** (step / span)))
    rising = settings.steps or max(1, round((settings.warmup or 0.0) * total_steps))
    # Vaswani et al. 2017, eq. (3), with the factor d_model^-0.5 warmup^-0.5 in `recipe.lr`. Their first step is 1.
    return StepSchedule(LambdaLR(optimizer, lambda step: min((step + 1) / rising, (rising / (step + 1)) ** 0.5)))
