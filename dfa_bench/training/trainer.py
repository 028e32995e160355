"""The epoch loop, one for every task."""

from __future__ import annotations

import copy
import gc
import math
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from dfa_bench.errors import ConfigError, Diverged, UserError
from dfa_bench.feedback import Attachment, FeedbackError
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import run_name
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, Task, build_task
from dfa_bench.training.checkpoint import Progress, load_checkpoint, save_checkpoint, seed_epoch, write_tensors
from dfa_bench.training.cost import peak_memory_mib, reset_peak_memory
from dfa_bench.training.loggers import as_metrics, build_logger
from dfa_bench.training.measuring import is_due, measured_step
from dfa_bench.training.optimizer import build_optimizer
from dfa_bench.training.progress import EpochLine
from dfa_bench.training.rules import build_path, build_rule, check_needs, given
from dfa_bench.training.schedule import Schedule, build_schedule

Trained = tuple[Progress, dict[str, float], torch.device]

CHECK_EVERY = 100  # steps between looks at the loss: each one waits for the device


def train(settings: RunSettings, record: Record, identity: str) -> Trained:
    """Train and test one run, from its last checkpoint if there is one.

    Returns:
        How far it came, the metrics of the tested weights, and the device.

    Raises:
        Diverged: the loss is NaN or infinite.
        ConfigError: a setting does not fit the model or this machine.
    """
    fabric = build_fabric(settings)
    work: Any = _train_or_tell  # takes more arguments than Fabric's annotation of `launch` admits
    outcome: Trained | UserError = fabric.launch(work, settings, record, identity)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _train_or_tell(fabric: Fabric, settings: RunSettings, record: Record, identity: str) -> Trained | UserError:
    """A spawned process cannot raise in the one that started it: it returns what the user can mend."""
    try:
        return _train(fabric, settings, record, identity)
    except UserError as error:
        return error.with_traceback(None)
    finally:
        # Gloo's threads abort a process that ends before they are joined; and a wrapped model that outlives the group,
        # in a traceback or a cycle of references, would end it with Python's lock held, and may wait forever.
        if fabric.world_size > 1:
            gc.collect()
            torch.distributed.destroy_process_group()


def build_fabric(settings: RunSettings) -> Fabric:
    """Devices, precision and distribution; several devices are one process each.

    Raises:
        ConfigError: this machine has no such accelerator, or not as many.
    """
    trainer = settings.trainer
    # Parameters that a rule leaves without gradient would make plain DDP wait for them forever.
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=build_rule(settings.rule).leaves_parameters_out)
    try:
        return Fabric(
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            strategy=strategy if trainer.devices > 1 else "auto",
            precision=trainer.precision,
        )
    except (RuntimeError, ValueError) as error:
        chosen = f"trainer.accelerator={trainer.accelerator}, trainer.devices={trainer.devices}"
        raise ConfigError(f"{chosen}, trainer.precision={trainer.precision}: {error}") from error


def build_learner(settings: RunSettings, task: Task) -> tuple[nn.Module, Attachment]:
    """The model with the initial values of the seed, and the rule attached to it.

    The rule draws from a generator of its own: the rules of one seed start from the same weights.

    Raises:
        ConfigError: the feedback paths do not fit the model.
    """
    torch.manual_seed(settings.seed)
    model = task.build_model()
    paths = [build_path(path) for path in settings.feedback]
    try:
        attachment = build_rule(settings.rule).attach(model, paths, example=task.example())
    except FeedbackError as error:
        raise ConfigError(f"feedback: {error}") from error
    check_needs(attachment, task, settings.rule)
    return model, attachment


def _train(fabric: Fabric, settings: RunSettings, record: Record, identity: str) -> Trained:
    trainer, recipe = settings.trainer, settings.recipe
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    task = build_task(settings)
    model, attachment = build_learner(settings, task)
    attachment.to(fabric.device)
    if trainer.compile:
        model.compile()  # behind the attachment, in front of Fabric: hooks and feedback are compiled too
    optimizer = build_optimizer(model, recipe)
    learner: Any
    learner, optimizer = fabric.setup(model, optimizer)
    steps = trainer.max_epochs * len(task.batches(1, Shard(fabric.global_rank, fabric.world_size)))
    schedule = build_schedule(optimizer, recipe.schedule, steps, task.watch)
    parts = {"model": model, "attachment": attachment, "optimizer": optimizer, "schedule": schedule}
    progress = _resume(record, identity, parts)
    reset_peak_memory(fabric.device)
    earlier = progress.wall_seconds
    started = saved = time.perf_counter()
    leads = fabric.is_global_zero
    logger = build_logger(
        settings if leads else settings.model_copy(update={"logger": type(settings.logger)()}), identity, record.folder
    )
    if leads and trainer.alignment_every and settings.rule.entry.compared_with is None:
        print(f"trainer.alignment_every has no effect with rule={settings.rule.name}.", file=sys.stderr)
    line = EpochLine(run_name(settings), trainer.max_epochs, progress.epoch, leads and trainer.progress == "auto")
    failed = True
    metrics = progress.metrics
    try:
        while progress.epoch < trainer.max_epochs and not _out_of_patience(progress, trainer.patience):
            epoch = progress.epoch + 1
            loss, aligned = _train_epoch(
                fabric, learner, attachment, optimizer, schedule, task, settings, epoch, progress
            )
            metrics = {"train/loss": loss}
            if epoch % trainer.evaluate_every == 0 or epoch == trainer.max_epochs:
                metrics |= as_metrics("val", _evaluate(fabric, model, task, "val"))
                _keep_best(progress, task, epoch, metrics, model, keep_weights=trainer.keep == "best")
                schedule.after_evaluation(metrics[f"val/{task.watch.metric}"])
            progress.epoch, progress.metrics = epoch, metrics
            progress.wall_seconds = earlier + time.perf_counter() - started
            if leads:
                rate = optimizer.param_groups[0]["lr"]
                watched = {"lr": rate, **metrics, **aligned}
                record.append_metrics({"epoch": epoch, "seconds": progress.wall_seconds, **watched})
                logger.log(epoch, watched)
                line.show(epoch, metrics)
                if time.perf_counter() - saved >= trainer.checkpoint_seconds:
                    progress.peak_memory_mib = max(progress.peak_memory_mib, peak_memory_mib(fabric.device))
                    states = {name: part.state_dict() for name, part in parts.items()}
                    save_checkpoint(record.checkpoint, identity, progress, states)
                    saved = time.perf_counter()
        if trainer.keep == "best" and progress.best_weights is not None:
            model.load_state_dict(progress.best_weights)
            metrics = dict(progress.best_metrics or {})
        metrics |= as_metrics("test", _evaluate(fabric, model, task, "test"))
        progress.wall_seconds = earlier + time.perf_counter() - started
        progress.peak_memory_mib = max(progress.peak_memory_mib, peak_memory_mib(fabric.device))
        if leads:
            write_tensors(record.model, {"model": model.state_dict(), "attachment": attachment.state_dict()})
        failed = False
    finally:
        line.close()
        logger.finish(metrics, failed)
        attachment.remove()
    progress.best_weights = None  # they are in model.pt
    return progress, metrics, fabric.device


def _train_epoch(
    fabric: Fabric,
    learner: nn.Module,
    attachment: Attachment,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    task: Task,
    settings: RunSettings,
    epoch: int,
    progress: Progress,
) -> tuple[float, dict[str, float]]:
    """One pass over the training batches; returns the mean loss and, where it is due, alignment at the first batch."""
    seed_epoch(settings.seed, epoch, fabric.global_rank)
    learner.train()
    total, steps = torch.zeros((), device=fabric.device), 0  # loss of this process, summed over steps
    aligned: dict[str, float] = {}
    started = time.perf_counter()
    for batch in task.batches(epoch, Shard(fabric.global_rank, fabric.world_size)):
        optimizer.zero_grad()
        batch = fabric.to_device(batch)
        attachment.begin_step(**given(attachment, task, batch))
        backward = partial(_backward, fabric, learner, task, batch)
        if steps == 0 and is_due(settings, epoch):
            loss, aligned, extra_seconds = measured_step(attachment, backward)
            started += extra_seconds  # no part of the time of a step
        else:
            loss = backward()
        if settings.recipe.gradient_clip is not None:
            fabric.clip_gradients(learner, optimizer, max_norm=settings.recipe.gradient_clip)
        optimizer.step()
        attachment.end_step()
        schedule.after_step()
        total += loss
        steps += 1
        if steps % CHECK_EVERY == 0:
            _finite(fabric, total, epoch, steps, settings)
    mean = _finite(fabric, total, epoch, steps, settings) / max(steps, 1)
    progress.steps += steps
    progress.step_seconds += time.perf_counter() - started
    return mean, aligned


def _backward(fabric: Fabric, learner: nn.Module, task: Task, batch: Any) -> Tensor:
    loss = task.loss(learner, batch)
    fabric.backward(loss)
    return loss.detach()


def _finite(fabric: Fabric, total: Tensor, epoch: int, step: int, settings: RunSettings) -> float:
    """Mean over processes of their sums of losses, so that all of them stop together; raises Diverged."""
    mean: Any = fabric.all_reduce(total.clone(), reduce_op="mean")  # a tensor in, a tensor out
    value = float(mean)
    if not math.isfinite(value):
        raise Diverged(
            f"The loss became {value} in epoch {epoch}, by step {step}. "
            f"Lower recipe.lr (now {settings.recipe.lr:g}) or set recipe.gradient_clip."
        )
    return value


def _evaluate(fabric: Fabric, model: nn.Module, task: Task, split: Any) -> dict[str, float]:
    """Evaluate in one process and tell the others, so that all of them stop together."""
    values: dict[str, float] = {}
    if fabric.is_global_zero:
        model.eval()
        with torch.no_grad(), fabric.autocast():
            values = task.evaluate(model, split)
    return dict(fabric.broadcast(values))


def _keep_best(
    progress: Progress, task: Task, epoch: int, metrics: dict[str, float], model: nn.Module, keep_weights: bool
) -> None:
    value = metrics[f"val/{task.watch.metric}"]
    if task.watch.improves(value, progress.best):
        progress.best, progress.best_epoch, progress.best_metrics = value, epoch, metrics
        if keep_weights:
            progress.best_weights = copy.deepcopy(model.state_dict())


def _out_of_patience(progress: Progress, patience: int | None) -> bool:
    return patience is not None and progress.epoch - (progress.best_epoch or progress.epoch) >= patience


def _resume(record: Record, identity: str, parts: Mapping[str, Any]) -> Progress:
    state = load_checkpoint(record.checkpoint, identity)
    progress = Progress(**state["progress"]) if state else Progress()
    if state:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    record.truncate_metrics(progress.epoch)
    return progress
