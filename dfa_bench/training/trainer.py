"""The one trainer, for every task and learning rule: `Trainer.train` is a run, `_epoch` an epoch, `_step` a step."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import io
import math
import multiprocessing
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException

from dfa_bench.data.progress import Bar
from dfa_bench.errors import ConfigError, Diverged, OutOfMemory, Preempted, RunKilled, UserError
from dfa_bench.feedback import Attachment, FeedbackError
from dfa_bench.runs.record import Record
from dfa_bench.runs.rule import build_path, build_rule
from dfa_bench.runs.store import run_name
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, Split, Task, build_task
from dfa_bench.training.capture import CapturedStep, why_not
from dfa_bench.training.checkpoint import (
    ProcessState,
    RunState,
    load_checkpoint,
    random_state,
    save_checkpoint,
    seed_epoch,
    set_random_state,
    write_tensors,
)
from dfa_bench.training.cost import peak_memory_mib, reset_peak_memory
from dfa_bench.training.loggers import NoLogger, as_metrics, build_logger
from dfa_bench.training.measuring import MeasuredStep, is_due, measured_step
from dfa_bench.training.memory import is_out_of_memory, out_of_memory
from dfa_bench.training.numerics import allow_tf32
from dfa_bench.training.optimizer import build_optimizer
from dfa_bench.training.placement import Feed
from dfa_bench.training.preemption import stop
from dfa_bench.training.processes import place_among_processes
from dfa_bench.training.rules import check_needs, given
from dfa_bench.training.schedule import build_schedule

CHECK_EVERY = 100  # steps between looks at the loss: each one waits for the device


class Trained(NamedTuple):
    """A run that came to its end."""

    state: RunState
    metrics: dict[str, float]  # of the tested weights; empty if it diverged
    device: torch.device
    diverged: str | None = None  # where the loss became NaN or infinite, and what to do


def train(settings: RunSettings, record: Record, identity: str) -> Trained:
    """Train and test one run, from its last checkpoint if there is one.

    Raises:
        ConfigError: a setting does not fit the model or this machine.
        Preempted: a signal asked this process to end; what was done is in a checkpoint.
        OutOfMemory: the device has too little of it.
        RunKilled: one of several processes is gone.
    """
    fabric = build_fabric(settings)
    work: Any = _train_or_tell  # takes more arguments than Fabric's annotation of `launch` admits
    try:
        outcome: Trained | UserError | Preempted = fabric.launch(work, settings, record, identity)
    except Preempted:  # in the process that waits for those that train
        for process in multiprocessing.active_children():
            process.terminate()
            process.join()
        raise
    except ProcessExitedException as error:
        raise RunKilled(f"A process of this run was killed ({error}); its last checkpoint is kept.") from error
    if isinstance(outcome, OutOfMemory):  # the run is gone by now; the next one finds its memory free
        gc.collect()
        torch.cuda.empty_cache()
    if isinstance(outcome, UserError | Preempted):
        raise outcome
    return outcome


def _train_or_tell(
    fabric: Fabric, settings: RunSettings, record: Record, identity: str
) -> Trained | UserError | Preempted:
    """A spawned process cannot raise in the one that started it: it returns why it ended."""
    try:
        with stop.caught():
            return Trainer(fabric, settings, record, identity).train()
    except (UserError, Preempted) as error:
        return error.with_traceback(None)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return out_of_memory(error, settings, fabric.device)
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
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # on every machine of a cluster
    # Parameters that a rule leaves without gradient would make plain DDP wait for them forever.
    place = place_among_processes()
    several = place.of > 1 or trainer.devices > 1
    rule = build_rule(settings.rule)
    if several and rule.streaming and trainer.alignment_every:
        raise ConfigError(
            "rule.streaming=true in several processes lets the same parameters learn at each step, and BP, which "
            "trainer.alignment_every measures, reaches others: set trainer.alignment_every=null."
        )
    strategy = DDPStrategy(
        start_method="spawn" if place.of == 1 else "popen",  # which starts none where torchrun or srun has
        find_unused_parameters=rule.leaves_parameters_out and not rule.streaming,
        static_graph=rule.streaming,  # what gets a gradient in a second backward is in no graph of the forward
    )
    try:
        fabric = Fabric(
            accelerator=trainer.accelerator,
            devices=place.here if place.of > 1 else trainer.devices,
            num_nodes=place.of // place.here,
            strategy=strategy if several else "auto",
            precision=trainer.precision,
            # One that takes no allocation of SLURM for processes that it has started.
            plugins=LightningEnvironment() if place.of == 1 else None,
        )
    except (RuntimeError, ValueError) as error:
        chosen = f"trainer.accelerator={trainer.accelerator}, trainer.devices={trainer.devices}"
        raise ConfigError(f"{chosen}, trainer.precision={trainer.precision}: {error}") from error
    if trainer.precision.endswith("-mixed"):
        # Fabric would round a model's inputs too, whose digits NeRF's encoding multiplies by 512. Autocast rounds the
        # factors of products, and nothing else.
        fabric.strategy.precision.convert_input = lambda data: data  # type: ignore[method-assign]
    return fabric


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


class Trainer:
    """A run in one of its processes.

    Args:
        fabric: launched.
        record: where the run is written; only the leading process writes.
        identity: of the run; a checkpoint with another one is refused.
    """

    def __init__(self, fabric: Fabric, settings: RunSettings, record: Record, identity: str) -> None:
        self.fabric, self.settings, self.record, self.identity = fabric, settings, record, identity
        self.options = options = settings.trainer
        self.leads = fabric.is_global_zero
        self.shard = Shard(fabric.global_rank, fabric.world_size)
        if options.threads:
            torch.set_num_threads(options.threads)
        on_cuda = fabric.device.type == "cuda"
        if on_cuda:
            allow_tf32(options.tf32)

        self.task = build_task(settings)
        self.draws_for_whole_batch = getattr(self.task, "draws_for_whole_batch", False)
        self.model, self.attachment = build_learner(settings, self.task)
        self.attachment.to(fabric.device)
        if options.compile:
            if self.attachment.streams:
                raise ConfigError("rule.streaming=true runs the model in the backward too: set trainer.compile=false.")
            if not getattr(self.task, "compiles", True):
                raise ConfigError(
                    f"trainer.compile=true: torch.compile does not trace the sparse matrices of "
                    f"task={settings.task.name}. Set trainer.compile=false; trainer.capture=true makes one CUDA graph "
                    f"of a step."
                )
            self.model.compile()  # behind the attachment, in front of Fabric: hooks and feedback are compiled too
        self.learner: Any  # the model as Fabric wraps it: for forward and backward passes
        optimizer = build_optimizer(self.model, settings.recipe, fused=on_cuda)
        self.learner, self.optimizer = fabric.setup(self.model, optimizer)
        self.captured: CapturedStep | None = None
        if options.capture:
            obstacle = why_not(settings, fabric.device, fabric.world_size, optimizer, self.attachment)
            if obstacle is None:
                run = weakref.proxy(self)  # no cycle: a finished run frees the device at once
                self.captured = CapturedStep(lambda batch: run._update(batch).loss, optimizer, fabric.device)
            elif self.leads and options.capture != "auto":
                print(f"trainer.capture={options.capture} has no effect: {obstacle}.", file=sys.stderr)
        self.feed = Feed(self.task, fabric.device, options.data_on_device)
        steps = options.max_epochs * len(self.task.batches(1, self.shard))
        self.schedule = build_schedule(self.optimizer, settings.recipe.schedule, steps, self.task.watch)

        self.parts: dict[str, Any] = {  # of a checkpoint
            "model": self.model,
            "attachment": self.attachment,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }
        self.state = load_checkpoint(record, identity, self.parts)
        self.metrics = self.state.metrics
        if self.leads:
            record.truncate_metrics(self.state.epoch)
        # Whether to save is agreed on by CPU, so that no step waits for a GPU.
        self.group = torch.distributed.new_group(backend="gloo") if fabric.world_size > 1 else None

        reset_peak_memory(fabric.device)
        self.earlier_seconds = self.state.wall_seconds  # of the sittings before this one
        self.started = self.saved = time.perf_counter()
        resumes = self.state.epoch > 0 or self.state.step > 0
        self.logger = build_logger(settings, identity, record, resumes) if self.leads else NoLogger()
        if self.leads and options.alignment_every and settings.rule.entry.compared_with is None:
            print(f"trainer.alignment_every has no effect with rule={settings.rule.name}.", file=sys.stderr)
        shown = self.leads and options.progress == "auto"
        self.bar = Bar(run_name(settings), "epoch", options.max_epochs, self.state.epoch, shown, stays=True)

    def train(self) -> Trained:
        """Train to the end, then test; can be called once.

        Raises:
            ConfigError: the rule needs what the task does not provide.
            Preempted: a signal asked this process to end.
        """
        failed, diverged = True, None
        try:
            with stop.held():
                while self.state.epoch < self.options.max_epochs and not self._is_out_of_patience():
                    self._epoch(self.state.epoch + 1)
                self._test()
            failed = False
        except Diverged as error:
            diverged = str(error)
            self._update_time()
            self._update_peak_memory()
        finally:
            self.bar.close()
            self.logger.finish(self.metrics, failed)
            self.attachment.remove()
        self.state.best_weights = None  # they are in model.pt
        return Trained(self.state, {} if diverged else self.metrics, self.fabric.device, diverged)

    def _epoch(self, epoch: int) -> None:
        """Train on every batch once, validate if it is due, and write down what came of it."""
        loss = self._train_on_batches(epoch)
        self.metrics = {"train/loss": loss}
        if epoch % self.options.evaluate_every == 0 or epoch == self.options.max_epochs:
            self._validate(epoch)
        alignment = self.state.alignment
        self.state.epoch, self.state.metrics = epoch, self.metrics
        self.state.step, self.state.alignment, self.state.processes = 0, {}, []
        self._update_time()
        if self.leads:
            self._report(alignment)
        self._save_if_due()

    def _train_on_batches(self, epoch: int) -> float:
        """Train on those batches of an epoch that are left; the mean loss of all its steps."""
        seed_epoch(self.settings.seed, epoch, 0 if self.draws_for_whole_batch else self.shard.rank)
        self.learner.train()
        batches = self.feed.batches(epoch, self.shard)
        total = self._resume_within_epoch(epoch, batches)  # loss of this process, summed over steps
        state, started = self.state, time.perf_counter()
        for batch in batches:
            step = self.step(batch, measured=state.step == 0 and is_due(self.settings, epoch))
            state.alignment |= step.metrics
            total += step.loss
            state.step += 1
            state.steps += 1
            if state.step % CHECK_EVERY == 0:
                self._mean_over_processes(total, epoch, state.step)
            ended = time.perf_counter()
            state.step_seconds += ended - started - step.extra_seconds  # measuring and saving are no part of a step
            self._save_if_due(total)
            started = time.perf_counter()
        mean = self._mean_over_processes(total, epoch, state.step) / max(state.step, 1)
        state.step_seconds += time.perf_counter() - started
        state.processes = self._of_all_processes(total)
        return mean

    def _resume_within_epoch(self, epoch: int, batches: Iterator[Any]) -> Tensor:
        """Pass over the batches of an epoch that a checkpoint has; returns the sum of their losses."""
        total = torch.zeros((), device=self.fabric.device)
        for _ in range(self.state.step):
            next(batches)
        saved = [ProcessState(**each) for each in self.state.processes]
        if len(saved) == self.shard.of:
            total += saved[self.shard.rank].loss
            set_random_state(saved[self.shard.rank].random, self.fabric.device)
        elif saved:  # by another number of processes
            total += sum(each.loss for each in saved) / len(saved)
            if self.draws_for_whole_batch:
                set_random_state(saved[0].random, self.fabric.device)
            else:  # whose generators are not ours
                seed_epoch(self.settings.seed, epoch, self.shard.rank, self.state.step)
        return total

    def _of_all_processes(self, total: Tensor) -> list[dict[str, Any]]:
        """The `ProcessState` of every process."""
        mine = vars(ProcessState(float(total), random_state(self.fabric.device)))
        if self.group is None:
            return [mine]
        written, states = io.BytesIO(), [b""] * self.shard.of
        torch.save(mine, written)  # Python's own pickling fails on the tensors of random states
        torch.distributed.all_gather_object(states, written.getvalue(), self.group)
        return [torch.load(io.BytesIO(each), weights_only=True) for each in states]

    def step(self, batch: Any, measured: bool = False) -> MeasuredStep:
        """One step of training; `measured` with alignment, which takes a second backward."""
        batch = self.fabric.to_device(batch)
        if measured or self.captured is None:
            step = self._update(batch, measured)
        else:
            step = MeasuredStep(self.captured(batch), {}, 0.0)
            self.state.captured |= self.captured.is_captured
        self.schedule.after_step()
        return step

    def _update(self, batch: Any, measured: bool = False) -> MeasuredStep:
        """Gradients and a step of the optimizer, without a look at what is on the device: it may be captured."""
        self.optimizer.zero_grad()
        self.attachment.begin_step(**given(self.attachment, self.task, batch))
        backward = partial(self._backward, batch)
        step = measured_step(self.attachment, backward) if measured else MeasuredStep(backward(), {}, 0.0)
        if (norm := self.settings.recipe.gradient_clip) is not None:
            # A look at whether the norm is finite would wait for the device; the loss tells soon enough.
            self.fabric.clip_gradients(self.learner, self.optimizer, max_norm=norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.attachment.end_step()
        return step

    def _backward(self, batch: Any) -> Tensor:
        """Forward and backward; returns the loss."""
        loss = self.task.loss(self.learner, batch)
        self.fabric.backward(loss)
        return loss.detach()

    def _mean_over_processes(self, total: Tensor, epoch: int, step: int) -> float:
        """Mean of the processes' sums of losses, so that all of them stop together; raises Diverged."""
        mean: Any = self.fabric.all_reduce(total.clone(), reduce_op="mean")  # a tensor in, a tensor out
        value = float(mean)
        if not math.isfinite(value):
            raise Diverged(
                f"The loss became {value} in epoch {epoch}, by step {step}. "
                f"Lower recipe.lr (now {self.settings.recipe.lr:g}) or set recipe.gradient_clip."
            )
        return value

    def _validate(self, epoch: int) -> None:
        """Evaluate, and keep the epoch if it is the best so far; raises Diverged."""
        self.metrics |= self._evaluate("val")
        value = self.metrics[f"val/{self.task.watch.metric}"]
        if math.isnan(value):  # no epoch after it would count as better
            raise Diverged(
                f"val/{self.task.watch.metric} became NaN in epoch {epoch}: the model's outputs are NaN, or the "
                f"validation split has rows of one kind only. Lower recipe.lr (now {self.settings.recipe.lr:g}), or "
                f"look at the data."
            )
        if self.task.watch.improves(value, self.state.best):
            self.state.best, self.state.best_epoch, self.state.best_metrics = value, epoch, self.metrics
            if self.options.keep != "last":
                self.state.best_weights = copy.deepcopy(self.model.state_dict())
        self.schedule.after_evaluation(value)

    def _evaluate(self, split: Split) -> dict[str, float]:
        """Evaluate in all processes, if the task can, or in one; its numbers count, so that all stop together."""
        values: dict[str, float] = {}
        shares = "shard" in inspect.signature(self.task.evaluate).parameters
        if self.group is not None:
            for buffer in self.model.buffers():  # statistics of batches, which are each process's own
                torch.distributed.broadcast(buffer, 0)
        if self.leads or shares:
            self.model.eval()
            evaluate: Any = self.task.evaluate
            evaluate = partial(evaluate, shard=self.shard) if shares else evaluate
            with torch.no_grad(), self.fabric.autocast(), self._interruptible():
                values = evaluate(self.model, split)
        return as_metrics(split, self.fabric.broadcast(values))

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A part that changes nothing of a run: a signal ends it at once, if no other process waits for this one."""
        if self.group is not None:
            yield
            return
        try:
            with stop.at_once():
                yield
        except Preempted:
            self._save()
            raise

    def _is_out_of_patience(self) -> bool:
        patience, state = self.options.patience, self.state
        return patience is not None and state.epoch - (state.best_epoch or state.epoch) >= patience

    def _report(self, alignment: dict[str, float]) -> None:
        """Tell of an epoch: to the record, the logger and the terminal."""
        epoch, watched = self.state.epoch, {"lr": self.optimizer.param_groups[0]["lr"], **self.metrics, **alignment}
        self.record.append_metrics({"epoch": epoch, "seconds": self.state.wall_seconds, **watched})
        self.logger.log(epoch, watched)
        text = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        self.bar.to(epoch, text, at_once=epoch == self.options.max_epochs)

    def _save_if_due(self, total: Tensor | None = None) -> None:
        """Save when `trainer.checkpoint_seconds` says so, or because a signal came, which then ends the run.

        Args:
            total: within an epoch: the loss of this process, summed over its steps.
        """
        every_epoch = self.options.checkpoint_seconds == 0
        due = total is None if every_epoch else time.perf_counter() - self.saved >= self.options.checkpoint_seconds
        saves, stops = self._any_process(due, stop.asked is not None)
        if saves or stops:
            if total is not None:
                self.state.processes = self._of_all_processes(total)
            self._save()
        if stops:
            stop.asked = stop.asked or signal.SIGTERM  # of another process
            stop.raise_if_asked()

    def _any_process(self, *facts: bool) -> list[bool]:
        """Whether something holds in any process, so that all of them do the same."""
        if self.group is None:
            return [*facts]
        shared = torch.tensor(facts, dtype=torch.int32)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, self.group)
        return [bool(each) for each in shared]

    def _save(self) -> None:
        self._update_time()
        self._update_peak_memory()
        if self.leads:
            save_checkpoint(self.record, self.identity, self.state, self.parts)
        self.saved = time.perf_counter()

    def _test(self) -> None:
        """Test the weights that `trainer.keep` names, and write them."""
        stopped = self.options.keep == "best_if_stopped" and self._is_out_of_patience()
        if (self.options.keep == "best" or stopped) and self.state.best_weights is not None:
            self.model.load_state_dict(self.state.best_weights)
            self.metrics = dict(self.state.best_metrics or {})
        self.metrics |= self._evaluate("test")
        self._update_time()
        self._update_peak_memory()
        if self.leads:
            parts = {"model": self.model.state_dict(), "attachment": self.attachment.state_dict()}
            write_tensors(self.record.model, parts)

    def _update_time(self) -> None:
        self.state.wall_seconds = self.earlier_seconds + time.perf_counter() - self.started

    def _update_peak_memory(self) -> None:
        self.state.peak_memory_mib = max(self.state.peak_memory_mib, peak_memory_mib(self.fabric.device))
