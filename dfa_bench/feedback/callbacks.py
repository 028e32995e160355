"""For training loops that are not your own: callbacks of Hugging Face's Trainer and of Lightning's.

Neither package is imported: both trainers call methods by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.errors import PassesDiffer, PointNotReached
from dfa_bench.feedback.measure import measure
from dfa_bench.feedback.paths import FeedbackPath
from dfa_bench.feedback.rule import Rule

FILE = "feedback.pt"


class _Callback:
    """Events that a callback does not listen to: nothing happens."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("on_") or name in ("setup", "teardown"):
            return lambda *args, **given: None
        raise AttributeError(name)


class TrainerCallback(_Callback):
    """For `transformers.Trainer`: keeps the rule's matrices with each checkpoint, and logs alignment and norms.

    >>> attached = DirectFeedback(seed=0).attach(model, path, example=batch)
    >>> trainer = Trainer(model, args, train_dataset=data, callbacks=[TrainerCallback(attached, every=100)])
    >>> trainer.train(resume_from_checkpoint=True)

    It also reports each step to rules whose matrices learn. Without it, a run that is resumed with another seed goes on
    with other feedback: `Trainer` saves weights as safetensors, which know nothing of it. With Accelerate, call
    `accelerator.register_for_checkpointing(attached)` instead.

    Args:
        attached: the rule, as `rule.attach` returned it.
        every: steps from one measurement to the next, each on the batch of its step (see `measure`); 0: none.
        log: takes what was measured. None: it goes into `trainer.state.log_history`. To send it to Weights & Biases and
            others as well, `trainer.add_callback(TrainerCallback(attached, every=100, log=trainer.log))`.
        remove_at_end: take the rule off the model when training ends, before you save it.
    """

    def __init__(
        self,
        attached: Attachment,
        every: int = 0,
        log: Callable[[dict[str, float]], object] | None = None,
        remove_at_end: bool = False,
    ) -> None:
        self.attached, self.every, self.log, self.remove_at_end = attached, every, log, remove_at_end
        self._batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._handle: RemovableHandle | None = None

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

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.every and state.global_step % self.every == 0:
            self._handle = self.attached.model.register_forward_pre_hook(self._keep_batch, with_kwargs=True)

    def _keep_batch(self, model: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if self._batch is None and torch.is_grad_enabled():
            self._batch = args, given

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._handle is None or self._batch is None:
            return
        self._handle.remove()
        (positional, named), self._handle, self._batch = self._batch, None, None
        measured = measure(self.attached, lambda: self._loss(positional, named).backward())
        if state.is_world_process_zero:
            if self.log is None:
                state.log_history.append({**measured, "step": state.global_step})
            else:
                self.log(measured)

    def _loss(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        output = self.attached.model(*positional, **named)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if not isinstance(loss, Tensor):
            raise PassesDiffer(
                f"{type(self.attached.model).__name__} returns no loss for this batch, since Trainer computes it "
                f"elsewhere (label smoothing, compute_loss): TrainerCallback(every=...) cannot measure alignment. "
                f"Call dfa_bench.feedback.measure in your compute_loss."
            )
        return loss

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.attached.end_step()

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.attached.state_dict(), _checkpoint(args, state) / FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.remove_at_end:
            self.attached.remove()


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


class LightningCallback(_Callback):
    """For Lightning's `Trainer`: attaches a rule, keeps its matrices in checkpoints, and logs alignment and norms.

    >>> callback = LightningCallback(DirectFeedback(seed=0), FeedbackPath(["layers.*"], "head"), part="net", every=100)
    >>> trainer = lightning.Trainer(callbacks=[callback])

    Args:
        rule, paths, example: as in `rule.attach`. The rule is attached before Lightning wraps the model.
        part: name of the module that your `training_step` calls: "net" if it calls `self.net(x)`; "" if it calls
            `self(x)`.
        every: optimizer steps from one measurement to the next, each on the batch of its step (see `measure`); 0: none.
        loss: function from the LightningModule and a batch to the loss to measure. None: what `training_step` returns;
            it runs twice more then, without its `self.log`, and metrics that it updates count the batch three times.
        begin: function from a batch to what the rule's `begin_step` takes, such as
            `lambda batch: {"targets": batch[1]}`.
        remove_at_end: take the rule off the model when training ends.
    """

    def __init__(
        self,
        rule: Rule,
        paths: FeedbackPath | Iterable[FeedbackPath] = (),
        example: object = None,
        *,
        part: str = "",
        every: int = 0,
        loss: Callable[[Any, Any], Tensor] | None = None,
        begin: Callable[[Any], Mapping[str, object]] | None = None,
        remove_at_end: bool = False,
    ) -> None:
        self.rule, self.paths, self.example, self.part = rule, paths, example, part
        self.every, self.loss, self.begin, self.remove_at_end = every, loss, begin, remove_at_end
        self.attached: Attachment | None = None
        self._batch: tuple[Any, int] | None = None  # to be measured

    @property
    def state_key(self) -> str:
        return f"dfa_bench.LightningCallback({self.part})"

    _legacy_state_key = state_key

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        model = module.get_submodule(self.part)
        if stage == "fit" and (self.attached is None or self.attached.model is not model):
            self.attached = self.rule.attach(model, self.paths, self.example)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.attached is None else dict(self.attached.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.attached is not None:
            self.attached.load_state_dict(state)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        assert self.attached is not None
        self.attached.forget_step()
        for optimizer in trainer.optimizers:
            self.attached.follow(optimizer)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        self._batch = (batch, number) if self.every and trainer.global_step % self.every == 0 else None
        if self.begin is not None and self.attached is not None:
            self.attached.begin_step(**self.begin(batch))

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        assert self.attached is not None
        if waiting := self.attached.waiting:
            model = type(self.attached.model).__name__
            raise PointNotReached(
                f"training_step ran the feedback point '{waiting[0]}' and not the error source, so what is below the "
                f"point has learned nothing. If it calls a part of {model}, as in self.net(x), attach the rule to that "
                f"part: LightningCallback(..., part='net'), with names of points that begin there."
            )

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if self._batch is None or self.attached is None:
            return
        (batch, number), self._batch = self._batch, None
        if self.loss is None and not module.automatic_optimization:
            raise PassesDiffer(
                f"{type(module).__name__} steps its optimizers itself, so its training_step cannot be run once more to "
                f"measure alignment. Give LightningCallback(loss=...), a function of module and batch."
            )

        def backward() -> None:
            with trainer.precision_plugin.train_step_context():
                loss = self._training_step(module, batch, number) if self.loss is None else self.loss(module, batch)
            loss.backward()

        module.log_dict(measure(self.attached, backward))

    def _training_step(self, module: Any, batch: Any, number: int) -> Tensor:
        with _silenced(module):
            result = module.training_step(batch, number)
        loss: Tensor = result["loss"] if isinstance(result, Mapping) else result
        return loss

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        if self.remove_at_end and self.attached is not None:
            self.attached.remove()
            self.attached = None


@contextmanager
def _silenced(module: Any) -> Any:
    """Inside, what a LightningModule logs goes nowhere."""
    names = ("log", "log_dict")
    for name in names:
        module.__dict__[name] = lambda *args, **given: None
    try:
        yield
    finally:
        for name in names:
            del module.__dict__[name]
