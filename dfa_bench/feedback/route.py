"""One feedback path at work: the hooks that keep activations, broadcast the error, and check that both happen."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dfa_bench.feedback.attachment import LearningHook
from dfa_bench.feedback.broadcast import Broadcast, PointFeedback, Projection, to_rows
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.describe import named
from dfa_bench.feedback.errors import (
    FeedbackError,
    MatrixNotDrawn,
    NotATensor,
    PointAboveSource,
    PointChangedInPlace,
    PointNotReached,
    PointWithoutGradient,
    ShapeMismatch,
)
from dfa_bench.feedback.matrix import MatrixRecipe, columns, draw_factor, draw_matrix
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.snapshot import Snapshot

if TYPE_CHECKING:
    from dfa_bench.feedback.streaming import Stream

# What every forward sets. nn.Module's way of setting an attribute, which looks for parameters and modules, is slower.
PER_FORWARD = frozenset(
    [
        "kept",
        "chain",
        "reached",
        "source_runs",
        "learning",
        "entered",
        "told_of_no_source",
        "ambiguous",
    ]
)


class Kept(NamedTuple):
    """The output of one call of a point, until the error source runs."""

    name: str  # of the point
    activation: Tensor  # if streaming, one of the same shape that takes no memory
    rows: Tensor | None  # which error each of its rows gets, negative: none; None: rows are those of the error
    snapshot: Snapshot | None = None  # to notice in-place changes; None: not looked for
    size: Tensor | None = None  # to compare it with the second forward's, if streaming


class Segment(NamedTuple):
    """What one call of an error source sends, and to which of the points that ran since the call before."""

    number: int  # of the call within the forward of the scope
    batch_axes: int  # of the error
    kept: list[Kept]
    axes: list[int]  # how many axes of each activation are rows
    spans: list[tuple[int, int]]  # its first column in the matrix, and how many
    project: Projection
    at_point: PointFeedback | None

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.kept]


class Route(nn.Module):
    """One path at work: what its points have kept in this forward, and its matrix."""

    matrix: Tensor | None  # B; of low rank: V
    factor: Tensor | None  # of low rank: U
    # Whether some columns of a projection need only those columns of B.
    projects_columns_apart: ClassVar[bool] = True

    def __init__(self, found: ResolvedPath, recipe: MatrixRecipe, number: int) -> None:
        super().__init__()
        self.path, self.recipe, self.number = found.path, recipe, number
        self.error = found.error_source
        self.source_name, self.scope_name = found.source_name, found.scope_name
        self.point_names, self.cut_names = list(found.points), list(found.cuts)
        self.widths: dict[str, int] = {}  # of each point; known once the matrix is drawn
        self.source_is_linear = isinstance(found.source, nn.Linear)
        self.register_buffer("matrix", None)
        self.register_buffer("factor", None)
        self.kept: list[Kept] = []
        self.chain: tuple[Any, ...] = ()  # what compiled points have kept, last first: (hook, activation, those before)
        self.stream: Stream | None = None  # keeps no activations and runs the scope again in the backward
        self.reached: list[str] = []
        self.source_runs = 0
        self.learning = False  # a forward of the scope, with gradients, is under way
        self.entered: bool | None = None  # by the model's forward: not yet, without gradients, with them
        self.told_of_no_source = False
        self.source_is_point = False  # as the first forward showed
        self.repeated: list[str] = []  # points that ran several times in it before one error
        self.ambiguous: str | None = None  # a point that ran twice outside the scope's forward

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PER_FORWARD:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # Copies do not take over the activations of an unfinished forward.
        return self.__dict__ | {"kept": [], "chain": (), "ambiguous": None, "learning": False}

    # Hooks, in the order in which a forward meets them.

    def enter(self, module: nn.Module, args: object) -> None:
        if in_backward():
            return
        if self.kept:
            self._tell_of_no_source(self.kept[0].name)
        self.forget()  # what a forward that never reached the source has left
        self.reached = []
        self.source_runs = 0
        self.learning = torch.is_grad_enabled()
        self.entered = self.entered or self.learning

    def at_point(self, name: str, module: nn.Module, args: tuple[object, ...], output: object) -> object:
        activation, rebuild = self._tensor(output, f"feedback point '{name}'", is_source=False)
        if self.stream is not None and self.stream.replay is not None:
            self.stream.replay.at_point(name, activation)
            return rebuild(activation.detach())
        if not torch.is_grad_enabled():
            if self.learning and not in_backward():
                _refuse_lost_gradient(name)
            return None
        if not in_backward():
            if not activation.requires_grad and _learns(module):
                _refuse_lost_gradient(name)
            self._keep(name, activation, args)
        elif _in_reentrant_checkpoint():
            _refuse_lost_gradient(name)
        # else: checkpointing recomputes a block whose activation is kept already
        return rebuild(activation.detach())

    def _take_chain(self) -> None:
        """Keep what compiled points have put into the chain."""
        links, chain = [], self.chain
        self.chain = ()
        while chain:
            hook, activation, chain = chain
            links.append((hook.name, activation))
        for name, activation in reversed(links):
            self._keep(name, activation, ())

    def _keep(self, name: str, activation: Tensor, args: tuple[object, ...]) -> None:
        if self.chain:
            self._take_chain()
        if not self.learning and any(name == other.name for other in self.kept):
            self.forget()  # called outside the scope, perhaps with another batch: an endless loop keeps one call
            self.ambiguous = name
            self._tell_of_no_source(name)
        self.reached.append(name)
        rows = None if self.path.rows is None else self._rows(activation)
        if self.stream is not None and self.stream.is_on:
            self.kept.append(self.stream.stand_in(name, activation, rows))
        else:
            snapshot = None if torch.compiler.is_compiling() else Snapshot.of(activation, args)
            self.kept.append(Kept(name, activation, rows, snapshot))

    def _tell_of_no_source(self, name: str) -> None:
        if not self.told_of_no_source and not torch.compiler.is_compiling():
            self.told_of_no_source = True
            warnings.warn(
                f"The feedback point '{name}' ran with gradients outside the forward of {self._scope()}, and the error "
                f"source '{self.source_name}' did not run after it: what is below the point learns nothing from that. "
                f"Call the module itself, not its forward() or its parts; run what is not to learn under "
                f"torch.no_grad().",
                stacklevel=2,
            )

    def at_cut(self, name: str, module: nn.Module, args: tuple[object, ...], output: object) -> object:
        activation, rebuild = self._tensor(output, f"cut '{name}'", is_source=False)
        if not torch.is_grad_enabled():
            return None
        if not in_backward():
            self.reached.append(name)
            self.entered = True
        return rebuild(activation.detach())

    def at_source(self, module: nn.Module, args: object, output: object) -> object:
        if not torch.is_grad_enabled():
            return None
        if self.stream is not None and self.stream.replay is not None:
            self.stream.replay.at_source()
            return None
        error_at, rebuild = self._tensor(output, f"error source '{self.source_name}'", is_source=True)
        kept = self._take_kept()
        if kept is None:
            return None
        self.source_runs += 1
        self.entered = True  # perhaps past the scope's own forward
        if not kept and self.matrix is None:
            return None  # `leave` says what is missing
        batch_axes = self.error.batch_axes(error_at)
        axes = [batch_axes if each.rows is None else each.rows.ndim for each in kept]
        widths = [math.prod(each.activation.shape[first:]) for each, first in zip(kept, axes, strict=True)]
        self._check(error_at, batch_axes, kept, widths)
        if self.matrix is None:
            self._draw(error_at, batch_axes, kept, widths)
        if self.matrix is None:
            return None  # a point was not reached: `leave` names it
        stream = self.stream if self.stream is not None and self.stream.is_on else None
        if stream is not None and not kept:
            return None  # nothing came before the source, or checkpointing recomputes what is above
        matrix, segment = self.matrix.to(error_at.device), self._segment(error_at, batch_axes, kept, axes, widths)
        if stream is not None:
            return rebuild(stream.send(error_at, matrix, segment))
        activations = [each.activation for each in kept]
        if self.path.normalised:
            activations = [normalised(activation, first) for activation, first in zip(activations, axes, strict=True)]
        return rebuild(self.send(error_at, matrix, segment, activations))

    def _take_kept(self) -> list[Kept] | None:
        """What points have kept since the error source ran last; None: it was called on its own."""
        self._take_chain()
        kept, ambiguous = self.kept, self.ambiguous
        self.forget()
        if in_backward():
            return []  # checkpointing recomputes what has been sent
        if kept and ambiguous and not self.learning:
            raise PointNotReached(
                f"The feedback point '{ambiguous}' ran several times outside the forward of {self._scope()} before the "
                f"error source '{self.source_name}' did, so which call the error belongs to is unknown. Call "
                f"{self._scope()}, or run what needs no gradient under torch.no_grad()."
            )
        if not kept and not self.learning:
            return None
        if not kept and self.source_runs:
            raise PointNotReached(
                f"The error source '{self.source_name}' ran again with no feedback point before it, so its second "
                f"error would reach no point. Choose a source that runs once after its points, such as a parent module."
            )
        return kept

    def _segment(
        self, error_at: Tensor, batch_axes: int, kept: list[Kept], axes: list[int], widths: Sequence[int]
    ) -> Segment:
        starts = columns(self.recipe, self.widths)
        spans = [(starts[each.name], width) for each, width in zip(kept, widths, strict=True)]
        project, at_point = self.sending(error_at, batch_axes, kept)
        return Segment(self.source_runs - 1, batch_axes, kept, axes, spans, project, at_point)

    def send(self, error_at: Tensor, matrix: Tensor, segment: Segment, activations: Sequence[Tensor]) -> Tensor:
        """The error source's output a_y, through the function whose backward feeds the activations."""
        _, batch_axes, _, _, spans, project, at_point = segment
        sent: Tensor = Broadcast.apply(
            error_at, matrix, batch_axes, segment.names, spans, project, at_point, *activations
        )
        return sent

    def sending(
        self, error_at: Tensor, batch_axes: int, kept: Sequence[Kept]
    ) -> tuple[Projection, PointFeedback | None]:
        """What projects the error, and what turns the error's rows into a point's, where they are not the same.

        Args:
            error_at, batch_axes: a_y, and how many axes of it are rows.
            kept: what the error is sent to.
        """
        return self.project, partial(_to_rows, rows) if (rows := mapped_rows(kept)) else None

    def _rows(self, activation: Tensor) -> Tensor:
        assert self.path.rows is not None
        rows = self.path.rows(activation.detach())
        if rows.is_floating_point() or activation.shape[: rows.ndim] != rows.shape or not rows.ndim:
            raise ShapeMismatch(
                f"FeedbackPath(rows=...) returned {tuple(rows.shape)} of {rows.dtype} for a point of shape "
                f"{tuple(activation.shape)}: it must return whole numbers in the shape of the point's row axes."
            )
        return rows

    def project(self, error: Tensor, matrix: Tensor) -> Tensor:
        """From the error, (rows, error width), to the feedback that is sliced for the points, (rows, columns)."""
        if self.factor is not None:
            error = error @ self.factor.to(error.device, error.dtype)
        return error @ matrix

    @property
    def whole_matrix(self) -> Tensor | None:
        """B, (error width, columns), also where it is kept as two factors."""
        return self.matrix if self.matrix is None or self.factor is None else self.factor @ self.matrix

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        if not torch.is_grad_enabled() or in_backward():
            return
        if not self.learning:
            raise FeedbackError(
                f"The forward of {self._scope()} called itself, or ran in two threads at once, so the calls of its "
                f"points cannot be told apart. Choose error_at and points inside a module that does not, and give each "
                f"thread a copy of the model."
            )
        self._take_chain()
        late = [each.name for each in self.kept]
        reached = {*self.reached}
        missed = [name for name in self.point_names + self.cut_names if name not in reached]
        if missed and not self.path.optional:
            raise PointNotReached(
                f"The forward never reached '{missed[0]}' (feedback points and cuts not reached: {len(missed)}). "
                f"Remove it from the path, or make sure that the model calls the module itself, not only its "
                f"functions. FeedbackPath(optional=True) is for points that a forward may skip."
            )
        if self.point_names and not self.source_runs:
            raise PointNotReached(
                f"The forward never reached the error source '{self.source_name}', so its points "
                f"({', '.join(self.point_names[:4])}) learn nothing. Set error_at to a module that the forward calls."
            )
        if late:
            raise PointAboveSource(
                f"The feedback point '{late[0]}' ran after the error source '{self.source_name}': no error comes back "
                f"to it. Move error_at above it (None: the model's output), or take it out of the points: modules "
                f"above the source learn by BP."
            )

    def end(self, module: nn.Module, args: object, output: object) -> None:
        """Runs after every forward, a failed one too."""
        self.learning = False
        self.forget()
        if self.stream is not None:
            self.stream.call = None

    def forget(self) -> None:
        self.kept, self.chain, self.ambiguous = [], (), None

    def check_entered(self) -> None:
        """After a forward of the model with gradients: did it reach this path?"""
        names = self.point_names or self.cut_names
        if self.entered is None:
            raise PointNotReached(
                f"The forward never ran {self._scope()}, nor the feedback points, cuts or error source in "
                f"it: {', '.join(names[:4])}. Remove the path, or make sure that the model calls that module itself."
            )
        if not self.entered and self.point_names:
            _refuse_lost_gradient(names[0])

    def _scope(self) -> str:
        return f"'{self.scope_name}'" if self.scope_name else "the model"

    # The matrix.

    def get_extra_state(self) -> Tensor:
        """Widths as JSON in a tensor of bytes, which safetensors can hold too."""
        return torch.tensor(list(json.dumps(self.widths).encode()), dtype=torch.uint8)

    def set_extra_state(self, saved: Tensor | dict[str, int]) -> None:
        # A dictionary: saved before they were a tensor.
        state: dict[str, int] = json.loads(bytes(saved.tolist())) if isinstance(saved, Tensor) else saved
        if set(state) != set(self.point_names) and (state or self.matrix is not None):
            raise FeedbackError(
                f"The saved feedback matrix is for the points {sorted(state) or 'of no forward yet'}, "
                f"but this attachment has {sorted(self.point_names)}. Attach with the paths that were saved."
            )
        self.widths = dict(state)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("matrix", "factor"):
            saved, own = state_dict.get(f"{prefix}{name}"), getattr(self, name)
            if saved is not None and (own is None or own.shape != saved.shape):
                setattr(self, name, torch.empty_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _draw(self, error_at: Tensor, batch_axes: int, kept: Sequence[Kept], widths: Sequence[int]) -> None:
        """Draw the matrix, and note what else the first forward shows; not where `leave` will name a missing point."""
        if torch.compiler.is_compiling():
            raise MatrixNotDrawn(
                "The feedback matrix cannot be drawn inside a compiled forward. "
                "Pass an example batch to attach(model, paths, example=...), or run one forward before torch.compile."
            )
        names = [each.name for each in kept]
        self.widths = self._widths_to_draw(names, widths)
        if not self.widths:
            return
        self.source_is_point = any(_is_the_same(error_at, each.activation) for each in kept)
        self.repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        error_width = math.prod(error_at.shape[batch_axes:])
        if self.source_is_linear and error_at.ndim - batch_axes > 1:
            warnings.warn(
                f"The error at '{self.source_name}' has shape {tuple(error_at.shape)}, and batch_axes={batch_axes} "
                f"flattens more than the last axis into its width: each position of a point gets columns of its own, "
                f"and other lengths than these do not fit. FeedbackPath(rows=...) says which row gets which error.",
                stacklevel=2,
            )
        dtype = torch.float64 if error_at.dtype == torch.float64 else torch.float32
        with torch.no_grad():
            self.matrix = draw_matrix(self.recipe, self.number, error_width, self.widths).to(error_at.device, dtype)
            factor = draw_factor(self.recipe, self.number, error_width)
            self.factor = None if factor is None else factor.to(error_at.device, dtype)

    def _widths_to_draw(self, names: Sequence[str], widths: Sequence[int]) -> dict[str, int]:
        """How wide each point is, from its calls in the first forward; nothing where `leave` will name a missing point.

        Raises:
            PointNotReached: a width is unknown, and `leave` would not say so.
        """
        found: dict[str, int] = {}
        for name, width in zip(names, widths, strict=True):
            found[name] = max(width, found.get(name, 0))
        if self.path.optional and self.recipe.shared and found:
            widest = max(found.values())  # of one matrix, a point takes its first columns
            found = {name: found.get(name, widest) for name in self.point_names}
        missed = [name for name in self.point_names if name not in found]
        if missed and self.path.optional and not self.recipe.shared:
            raise PointNotReached(
                f"The feedback point '{missed[0]}' was passed by, so how wide its own matrix must be is unknown. "
                f"Attach with an example that reaches every point (model.eval() runs layers that training drops)."
            )
        if missed and not self.learning:  # outside the scope's forward: no `leave` to name it
            raise PointNotReached(
                f"The error source '{self.source_name}' ran before the feedback point '{missed[0]}', so the matrix "
                f"cannot be drawn. Call {self._scope()}, which runs both, or remove the point from the path."
            )
        return {} if missed else {name: found[name] for name in self.point_names}

    # Axes.

    def _check(self, error_at: Tensor, batch_axes: int, kept: Sequence[Kept], widths: Sequence[int]) -> None:
        """Whether the shapes fit each other and the matrix, and the activations are what the points returned."""
        batch = error_at.shape[:batch_axes]
        for (name, activation, rows, snapshot, _), width in zip(kept, widths, strict=True):
            if rows is None and activation.shape[:batch_axes] != batch:
                raise ShapeMismatch(
                    f"The feedback point '{name}' returns shape {tuple(activation.shape)}, but the error at "
                    f"'{self.source_name}' has shape {tuple(error_at.shape)}: the point's shape must begin with "
                    f"{tuple(batch)}. Move the point, {_fewer_axes(batch, activation)}or say which row gets which "
                    f"error, FeedbackPath(rows=...)."
                )
            if self.widths and width > self.widths[name]:
                raise ShapeMismatch(
                    f"The feedback point '{name}' is now {width} wide; its matrix was drawn for {self.widths[name]}. "
                    f"Draw it from the widest batch: attach(model, paths, example=...)."
                )
            if snapshot is not None and snapshot.is_broken_by(activation):
                raise PointChangedInPlace(
                    f"The output of the feedback point '{name}' was changed in place where its true gradient is lost. "
                    f"Use the operation that makes a new tensor (y = y + z, inplace=False) after this point."
                )
        drawn = self.matrix if self.factor is None else self.factor
        if drawn is not None and (width := math.prod(error_at.shape[batch_axes:])) != drawn.shape[0]:
            raise ShapeMismatch(
                f"The error at '{self.source_name}' is {width} wide (shape {tuple(error_at.shape)}, {batch_axes} batch "
                f"axes), but its matrix was drawn for {drawn.shape[0]}. Attach again."
            )

    def _tensor(self, output: object, what: str, is_source: bool) -> tuple[Tensor, Callable[[Tensor], object]]:
        """The tensor in what a module returned, and what puts another one in its place."""
        if isinstance(output, Tensor):
            return output, _itself
        is_tuple = isinstance(output, (tuple, list)) and len(output) > 0 and isinstance(output[0], Tensor)
        if is_tuple and self.path.first_of_tuple:
            assert isinstance(output, (tuple, list))
            rest = list(output[1:])
            if not is_source:  # else the true gradient would come back through them
                rest = pytree.tree_map_only(Tensor, torch.detach, rest) if torch.is_grad_enabled() else rest
            make = type(output)._make if hasattr(output, "_make") else type(output)
            return output[0], lambda first: make([first, *rest])
        if is_source and isinstance(logits := named(output, "logits"), Tensor):
            if isinstance(loss := named(output, "loss"), Tensor) and loss.requires_grad:
                raise NotATensor(
                    f"The {what} returns a {type(output).__name__} with a loss, which was made before the error source "
                    f"ended, so it has no error there. Set error_at to the module whose output is the logits, such as "
                    f"'lm_head' or 'classifier'."
                )
            return logits, partial(_with_logits, output)
        hint = " Pass FeedbackPath(first_of_tuple=True) to use its first tensor." if is_tuple else ""
        raise NotATensor(
            f"The {what} returns a {type(output).__name__}, not a tensor.{hint or ' Choose another module.'}"
        )


class PointHook(LearningHook):
    """Forward hook of one point or cut: an object, not a closure, so that a deep copy of the model has its own."""

    def __init__(self, route: Route, name: str, is_cut: bool) -> None:
        self.route, self.name, self.act = route, name, (route.at_cut if is_cut else route.at_point)
        self.is_cut = is_cut

    def __call__(self, module: nn.Module, args: tuple[object, ...], output: object) -> object:
        if (
            torch.compiler.is_compiling()
            and isinstance(output, Tensor)
            and output.requires_grad
            and self.route.learning
            and self.route.stream is None
            and not self.is_cut
        ):
            # Nothing here depends on the name of the point or on how many came before it, so that blocks that are
            # compiled one by one share their code.
            self.route.chain = (self, output, self.route.chain)
            return output.detach()
        return self.act(self.name, module, args, output)


def _is_the_same(error_at: Tensor, activation: Tensor) -> bool:
    """Whether a point's output is the source's, which a cut has turned into another tensor."""
    if torch.compiler.is_compiling() or error_at.shape != activation.shape or not error_at.numel():
        return False
    return 0 != error_at.data_ptr() == activation.data_ptr()  # 0: on the meta device


def _fewer_axes(batch: Sequence[int], activation: Tensor) -> str:
    """With which batch_axes a point's shape would fit the error's, as part of a sentence; empty if with none."""
    pairs = zip(batch, activation.shape, strict=False)
    shared = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
    return f"set batch_axes={shared} (now {len(batch)}), the axes that they share, " if shared else ""


def mapped_rows(kept: Sequence[Kept]) -> list[Tensor]:
    """Which error each row of each activation gets; empty where rows are those of the error."""
    return [each.rows for each in kept if each.rows is not None]


def _to_rows(rows: Sequence[Tensor], place: int, feedback: Tensor) -> Tensor:
    return to_rows(feedback, rows[place])


def normalised(activation: Tensor, first: int) -> Tensor:
    """Only its backward is used: a gradient that is orthogonal to the activation, and smaller as that is larger."""
    return nn.functional.layer_norm(activation, activation.shape[first:])


def _with_logits(output: Any, logits: Tensor) -> Any:
    if hasattr(output, "logits"):
        output.logits = logits
    else:
        output["logits"] = logits
    return output


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _in_reentrant_checkpoint() -> bool:
    """Within a backward: whether reentrant checkpointing runs this forward, and not the other kind, which does so for
    an operation that needs its saved tensors."""
    node = torch._C._current_autograd_node()
    return torch.is_grad_enabled() and node is not None and node.name() == "CheckpointFunctionBackward"


def _refuse_lost_gradient(name: str) -> None:
    raise PointWithoutGradient(
        f"The output of the feedback point '{name}' carries no gradient although the model trains, so the parameters "
        f"below it would learn nothing. With activation checkpointing pass use_reentrant=False; if the forward runs it "
        f"under torch.no_grad(), take it out of the points; if it ends in another point, keep one of the two."
    )
