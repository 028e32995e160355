"""One run in a process of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfa_bench.errors import OutOfMemory, Preempted, UserError, without_secrets
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.allocator import keep_freed_memory
from dfa_bench.training.preemption import stop


@dataclass(frozen=True)
class Report:
    """How a run ended: it is done; it cannot be done; a signal ended it before its time; its process is gone."""

    status: Literal["done", "failed", "preempted", "lost"]
    reason: str = ""
    signal: int | None = None
    out_of_memory: bool = False  # that is why it failed


def do_run(settings: RunSettings) -> Report:
    """Do a run in this process, which the engine started for it."""
    from dfa_bench.training.execute import execute  # PyTorch, after the engine has set the environment

    keep_freed_memory()
    trainer = settings.trainer.model_copy(update={"progress": "none"})
    try:
        with stop.caught():
            result = execute(settings.model_copy(update={"trainer": trainer})).result
    except Preempted as signal:
        return Report("preempted", str(signal), signal.number)
    except UserError as error:
        return Report("failed", str(error), out_of_memory=isinstance(error, OutOfMemory))
    except Exception as error:  # told in the summary; the other runs go on
        if stop.raised is not None:
            return Report("preempted", str(error), stop.raised)
        return Report("failed", without_secrets(f"{type(error).__name__}: {error}"))
    return Report("failed", result.message) if result.message else Report("done")
