"""A learning rule at work on a model: its hooks, its matrices, and what learns from what."""

from __future__ import annotations

import hashlib
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfa_bench.feedback.compiler import compile_by_hooks, in_backward, is_exporting, reset_compiler
from dfa_bench.feedback.describe import Description, describe_graph, tensors_in, warn_of_both
from dfa_bench.feedback.errors import FeedbackError, MatrixNotDrawn, ModelChanged
from dfa_bench.feedback.paths import INNER, ErrorSource, unwrap

if TYPE_CHECKING:
    from dfa_bench.feedback.check import Check


_PAUSED: list[frozenset[int]] = []  # for each rule that is paused: ids of the tables that its hooks were taken from


class LearningHook:
    """Base of the hooks that a rule puts on parts of a model: a model that has one learns by a rule already."""


class Attachment(nn.Module, ABC):
    """A learning rule at work on a model, as `rule.attach` returns it; also a context manager.

    Its `state_dict` holds what the rule has drawn or learned, apart from the model's own, which stays as it was.

    A rule's own attachment hooks the model in its constructor, each hook through `keep`.

    Args:
        model: that learns by the rule.
        error_sources: where the errors are whose rows `alignment` compares.
    """

    # Names of what `begin_step` takes before each forward: methods of a task that take a batch, such as "targets".
    needs: frozenset[str] = frozenset()
    # Whether its matrices change from step to step, because they learn or are drawn again.
    changes_matrices: ClassVar[bool] = False
    # Whether the backward runs layers a second time, with the random numbers of the first.
    runs_layers_again: bool = False

    def __init__(self, model: nn.Module, error_sources: Sequence[ErrorSource] = ()) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple: the model is not part of the attachment
        self._description: Description | None = None
        self._looked_for_parallel_tensors = False
        self._loaded_mark: str | None = None  # of weights that were loaded before the matrices were drawn
        self._described_of: list[tuple[str, bool]] = []  # the parameters at that time, and whether they were trained
        self._handles: list[RemovableHandle] = []
        self._told_of_inputs = False
        # Where hooked modules are kept, to notice when another takes their place.
        self._places: list[tuple[dict[str, nn.Module | None], str, nn.Module, str]] = []
        self.error_sources = list(error_sources)

    @property
    @abstractmethod
    def point_names(self) -> list[str]:
        """Names of the modules whose outputs get feedback; cuts are not among them."""

    @property
    @abstractmethod
    def matrices(self) -> list[Tensor]:
        """The fixed random matrices of the rule."""

    def check_axes(self, forward: Callable[[], object]) -> None:
        """Refuse points whose rows are not those of the error, only equal in number; `forward` runs the model once."""

    def warn_of_other_rows(self, example: object, run: Callable[[object], object]) -> None:
        """Warn of points that belong to a different sequence from the error's; `run` takes such an example."""

    @property
    def waiting(self) -> list[str]:
        """Points that have run and wait for an error: after a whole forward and backward there should be none."""
        return []

    def begin_step(self, **given: object) -> None:
        """Before the forward of each training step, with what the attachment `needs`."""

    def end_step(self) -> None:
        """After the optimizer's step: here a rule may train its own matrices."""

    def forget_example(self) -> None:
        """After the example, which is not a step."""
        self.forget_step()
        self._looked_for_parallel_tensors = False  # the model may be made parallel later

    def forget_step(self) -> None:
        """Drop what a forward without its step has left, such as that of the example; the next step begins afresh."""

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Call `end_step` after each step of an optimizer from now on. Only rules that learn feedback need it."""
        self.keep(optimizer.register_step_post_hook(self._after_step))

    def _after_step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        self.end_step()

    def keep(self, handle: RemovableHandle) -> None:
        """Let a hook come off with the others when the rule is paused or removed."""
        self._handles.append(handle)

    def watch(self, modules: Mapping[str, nn.Module]) -> None:
        """Refuse to run once another module, which has no hook, has taken the place of one of these."""
        for name, module in modules.items():
            if name:
                parent, _, key = name.rpartition(".")
                self._places.append((self.model.get_submodule(parent)._modules, key, module, name))

    def start(self) -> None:
        """Called once, by `Rule.attach`, when all hooks are on."""
        if self._places:
            self.keep(self.model.register_forward_pre_hook(self._begin, with_kwargs=True))
        self.keep(self.model.register_forward_hook(self._after_forward))
        self.keep(self.model.register_state_dict_post_hook(partial(self._mark)))  # which torch sets an attribute of
        self.keep(self.model.register_load_state_dict_pre_hook(self._compare_mark))
        self._refuse_parallel_tensors()
        compile_by_hooks()
        reset_compiler()

    def _refuse_parallel_tensors(self) -> None:
        """FSDP's parameters are such tensors too, but whole while a module runs."""
        if not torch.distributed.is_available() or "torch.distributed.tensor" not in sys.modules:
            return
        from torch.distributed.fsdp import FSDPModule
        from torch.distributed.tensor import DTensor

        sharded = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        whole = {id(parameter) for module in sharded for parameter in module.parameters()}
        for name, parameter in self.model.named_parameters():
            if isinstance(parameter, DTensor) and id(parameter) not in whole:
                raise FeedbackError(
                    f"'{name}' is a DTensor: with tensor parallelism an activation, or the error, is only a part of "
                    f"itself on each device, and feedback would differ from that on one device. Use "
                    f"DistributedDataParallel or fully_shard."
                )

    def describe(self) -> Description:
        """Tell for every parameter what it learns, or learned, from; `print` it. Warns of any that learns in two ways.

        Raises:
            FeedbackError: the model has not run eagerly, with gradients, since the rule was attached.
        """
        if self._described_of != _trained(self.model):
            self._description = None  # parameters have come, gone, or been frozen since
        if self._description is None:
            raise FeedbackError(
                "What each parameter learns from is known only after a forward with gradients outside torch.compile, "
                "and after each change of what is trained. "
                "Run one, or pass an example batch to attach(model, paths, example=...). "
                "With streaming=True, run it in `with attached.unstreamed():`."
            )
        warn_of_both(self._description)
        return self._description

    def check(self, backward: Callable[[], object]) -> Check:
        """Prove what every parameter learns from, at the current weights: see `dfa_bench.feedback.check`.

        >>> print(attached.check(lambda: loss(model(inputs), targets).backward()))
        """
        from dfa_bench.feedback.check import prove  # which needs this class

        return prove(self, backward)

    def remove(self) -> None:
        """Take all hooks off: the model is as it was before. Harmless when called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        reset_compiler()

    @property
    def streams(self) -> bool:
        """Whether a forward keeps no activations, so that what learns from what cannot be read off it."""
        return False

    @property
    def model(self) -> nn.Module:
        """The model that learns by the rule."""
        return self._model[0]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the hooks off for a while: inside, the model learns by BP.

        Code that torch.compile made before does not notice; see `compiler.without_compiler`.

        Raises:
            FeedbackError: the rule was removed, so there is nothing to pause.
        """
        if not self._handles:
            raise FeedbackError("The rule was removed from its model. Attach it again.")
        tables = {id(table): table for handle in self._handles if (table := handle.hooks_dict_ref()) is not None}
        before = [(table, dict(table)) for table in tables.values()]
        ours = {handle.id for handle in self._handles}
        for table, hooks in before:
            for key in ours & hooks.keys():
                del table[key]
        paused = frozenset(tables)
        _PAUSED.append(paused)
        try:
            yield
        finally:
            _PAUSED.remove(paused)
            ours = ours if self._handles else set()  # removed meanwhile
            for table, hooks in before:
                now = dict(table)  # others may have come or gone
                table.clear()
                table.update({key: hook for key, hook in hooks.items() if key in ours or key in now} | now)

    @contextmanager
    def unstreamed(self) -> Iterator[None]:
        """Inside, forwards keep their activations if the rule streams: the same gradients, with the memory of BP."""
        yield

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _begin(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        for modules, key, module, name in self._places:
            if (now := modules.get(key)) is not module and not _wraps(now, module):
                raise ModelChanged(
                    f"The module '{name}' was replaced after the rule was attached (by adapters such as LoRA, or by "
                    f"merging them?). Remove the rule, change the model, and attach it again."
                )
        if self._told_of_inputs or not torch.is_grad_enabled() or in_backward() or not self.point_names:
            return
        if any(each.requires_grad for each in tensors_in([args, kwargs])):
            self._told_of_inputs = True
            warnings.warn(
                f"An input of {type(model).__name__} wants a gradient. What it gets is feedback, not a derivative of "
                f"the output. Where you need derivatives (physics-informed losses, forces, saliency, the generator "
                f"of a GAN), run that forward and its backward in `with attached.paused():`.",
                stacklevel=2,
            )

    def _after_forward(self, model: nn.Module, args: object, output: object) -> None:
        if torch.compiler.is_compiling():
            if is_exporting() and torch.is_grad_enabled() and self.point_names:
                raise FeedbackError(
                    "torch.export would keep the cuts between layers and no feedback, so the exported model could not "
                    "be trained. Export it in `with attached.paused():`, or under torch.no_grad() to predict only."
                )
            return
        if not torch.is_grad_enabled() or in_backward():
            return
        if not self._looked_for_parallel_tensors:
            self._refuse_parallel_tensors()
            self._looked_for_parallel_tensors = True
        if self._description is None and not self.streams:
            self._description, self._described_of = describe_graph(model, output), _trained(model)
            self.warn_of(self._description, output)
            self._check_loaded_mark()

    def warn_of(self, description: Description, output: object) -> None:
        """Called when the model is described, with what its forward returned: warn of what nobody can have intended."""

    # Checkpoints of the model know which feedback it was trained with.

    def fingerprint(self) -> str | None:
        """16 letters that tell fixed feedback matrices apart; None where there are none yet, or they change."""
        try:
            matrices = [] if self.changes_matrices else self.matrices
        except MatrixNotDrawn:
            return None
        digest = hashlib.sha256()
        for matrix in matrices:
            some = matrix.detach().flatten()[:: max(1, matrix.numel() // 64)]
            digest.update(f"{tuple(matrix.shape)} {some.double().tolist()}".encode())
        return digest.hexdigest()[:16] if matrices else None

    def _mark(self, model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
        if (mark := self.fingerprint()) is not None:
            metadata["feedback"] = mark  # beside the version of the module's state: not a key, so any model loads it

    def _compare_mark(self, model: nn.Module, state: Any, prefix: str, metadata: dict[str, Any], *args: object) -> None:
        self._loaded_mark = metadata.get("feedback")
        self._check_loaded_mark()

    def _check_loaded_mark(self) -> None:
        now = self.fingerprint()
        if now is None:
            return  # not drawn yet: after the next forward
        saved, self._loaded_mark = self._loaded_mark, None
        if saved not in (None, now):
            warnings.warn(
                "These weights were trained with feedback matrices other than those attached now. To go on "
                "with the same, attach with the same rule, seed and paths, or load the attachment's own state_dict too "
                "(before the model's).",
                stacklevel=2,
            )


def _trained(model: nn.Module) -> list[tuple[str, bool]]:
    return [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]


def _wraps(module: nn.Module | None, inner: nn.Module) -> bool:
    """Whether it is a wrapper that runs the other module and nothing else: torch.compile's or checkpointing's."""
    while module is not None and module is not inner:
        module = next((module._modules[name] for name in INNER if name in module._modules), None)
    return module is inner


def attachment_of(model: nn.Module) -> Attachment | None:
    """The attachment at work on a model (or on a copy of one), if there is any."""
    for module in unwrap(model).modules():
        for hook in module._forward_hooks.values():
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, Attachment):
                return owner
    return None


def is_hooked(module: nn.Module) -> bool:
    """Whether a rule has hooks on this module, or has taken them off for a while."""
    if any({id(module._forward_hooks), id(module._forward_pre_hooks)} & paused for paused in _PAUSED):
        return True
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(isinstance(getattr(hook, "__self__", hook), LearningHook) for hook in hooks)
