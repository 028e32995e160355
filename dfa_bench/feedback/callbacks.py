"""For training loops that are not one's own: what keeps a rule's matrices beside the checkpoints of a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dfa_bench.feedback.attachment import Attachment

FILE = "feedback.pt"


class TrainerCallback:
    """For `transformers.Trainer`: saves what the rule has drawn and learned with each checkpoint, and loads it again.

    >>> attached = DirectFeedback(seed=0).attach(model, path, example=batch)
    >>> trainer = Trainer(model, args, train_dataset=data, callbacks=[TrainerCallback(attached)])
    >>> trainer.train(resume_from_checkpoint=True)

    It also tells rules whose matrices learn of each step. Without it, a run that is resumed with another seed goes on
    with other feedback: `Trainer` saves weights as safetensors, which know nothing of it. With Accelerate, call
    `accelerator.register_for_checkpointing(attached)` instead.
    """

    def __init__(self, attached: Attachment) -> None:
        self.attached = attached

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.attached.state_dict(), _checkpoint(args, state) / FILE)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.attached.forget_step()
        if not state.global_step:
            return  # not resumed
        path = _checkpoint(args, state) / FILE
        if not path.exists():
            warnings.warn(
                f"{path} is missing: this run goes on with the feedback matrices that were drawn now. They are the "
                f"same only if the rule, its seed and its paths are.",
                stacklevel=2,
            )
            return
        self.attached.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.attached.end_step()

    def __getattr__(self, name: str) -> Callable[..., None]:
        """All other events: nothing happens."""
        if name.startswith("on_"):
            return lambda *args, **given: None
        raise AttributeError(name)


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
