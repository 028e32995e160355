"""Feedback paths: from patterns over module names to the modules that a rule hooks."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dfa_bench.feedback.errors import PointNotFound, PointsOverlap, ShapeMismatch

# What torch.compile, DistributedDataParallel and Lightning Fabric put before the names of the modules that they wrap.
WRAPPERS = ("_orig_mod", "_forward_module", "module")
# What wrappers of a whole model put before its names (PEFT's two last), and wrappers of parts anywhere between.
PREFIXES = (*WRAPPERS, "base_model", "model")
INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class FeedbackPath:
    """One error source and the feedback points that receive its error.

    Patterns match the dotted names of `model.named_modules()` name by name, as those of files do: within a name `*`
    stands for any letters, `?` for one, `[0-9]` for one of several; `**` stands for any names (`layers.**.activation`).
    What wrappers put before names (torch.compile, DistributedDataParallel, Fabric, PEFT) need not be written.

    Args:
        points: patterns of the modules whose outputs h_i get B_i δa_y as their gradient.
        error_at: pattern of the one module whose output is a_y. None: the model's own output.
        cuts: patterns of the modules whose outputs are detached and get no feedback.
        batch_axes: how many leading axes of a_y each have an error of their own (samples, tokens, ...);
            the rest is flattened. None: all but the last. An a_y of shape (N,) counts as (N, 1).
        first_of_tuple: where a point, a cut or the source returns a tuple, take its first tensor; the others of a point
            or a cut are detached.
        normalised: whatever reads the points normalises them first, as in a pre-norm transformer: the feedback goes
            through the derivative of a layer norm (without weights) at each point, so that it cannot make it grow.
        rows: where rows of points are not those of the error (pooling, one label for a sequence or a graph): a function
            that takes a point's output and returns which error each of its rows gets, whole numbers in the shape of its
            row axes. Errors are counted over the batch axes, from 0. Such a row gets the whole projected error; one
            with a negative number, such as padding, gets none.
        optional: a forward may skip points, such as those of dropped layers (LayerDrop) or of experts that no token is
            sent to; by default that is an error.
    """

    points: Sequence[str]
    error_at: str | None = None
    cuts: Sequence[str] = ()
    batch_axes: int | None = None
    first_of_tuple: bool = False
    rows: Callable[[Tensor], Tensor] | None = None
    normalised: bool = False
    optional: bool = False

    @staticmethod
    def auto(model: nn.Module, example: object) -> FeedbackPath:
        """A path for any model: its blocks, else its activations, else its layers; with the error at its head.

        >>> path = FeedbackPath.auto(model, example)
        >>> print(path)  # to look at, change, and paste
        >>> attached = DirectFeedback(seed=0).attach(model, path, example=example)

        Blocks are modules of one class side by side in a list. The head is the module whose output the model returns
        (or returns after functions without weights). A layer norm right above the last block makes the points
        `normalised`. Blocks whose rows are not those of the error, such as an encoder's beside a longer decoder, are
        left out. Where points have one axis more than the error, such as the tokens of a classifier, each row gets the
        error of its sample (`rows`).

        Args:
            model: any module; it is run once, with gradients, and left as it was.
            example: as in `attach`.

        Raises:
            PointNotFound: nothing below the head can be a point.
        """
        from dfa_bench.feedback.propose import propose  # which needs this class

        return propose(model, example)

    def __post_init__(self) -> None:
        for field in ("points", "cuts"):
            given = getattr(self, field)
            if isinstance(given, str):
                raise TypeError(f"FeedbackPath({field}=...) takes a list of patterns, not the single string given.")
            if other := [each for each in given if not isinstance(each, str)]:
                raise TypeError(
                    f"FeedbackPath({field}=...) takes patterns over module names, not the {type(other[0]).__name__} "
                    f"given. `dict(model.named_modules())` has the names."
                )
        if self.error_at is not None and not isinstance(self.error_at, str):
            raise TypeError(
                f"FeedbackPath(error_at=...) takes a pattern over module names, not the {type(self.error_at).__name__} "
                f"given."
            )
        if self.batch_axes is not None and self.batch_axes < 1:
            raise ValueError(f"FeedbackPath(batch_axes={self.batch_axes}): an error has at least one batch axis.")


@dataclass(frozen=True)
class ErrorSource:
    """Where the error of a path is, by name, and how many of its leading axes have an error of their own."""

    name: str
    axes: int | None = None  # None: all but the last

    def batch_axes(self, error_at: Tensor) -> int:
        """How many leading axes of a_y have an error of their own.

        Raises:
            ShapeMismatch: it has fewer than the path says, or none.
        """
        if error_at.ndim == 0:
            raise ShapeMismatch(
                f"The error source '{self.name}' returns a scalar, which has no batch axis. "
                f"Set error_at to the module whose output is a_y, below the loss."
            )
        axes = max(error_at.ndim - 1, 1) if self.axes is None else self.axes
        if axes > error_at.ndim:
            raise ShapeMismatch(
                f"batch_axes={axes}, but the error source '{self.name}' returns only {error_at.ndim} axes: "
                f"{tuple(error_at.shape)}."
            )
        return axes


@dataclass
class ResolvedPath:
    """A path matched with a model. `scope` is the lowest module around all that it names that has a forward."""

    path: FeedbackPath
    points: dict[str, nn.Module]
    cuts: dict[str, nn.Module]
    source_name: str
    source: nn.Module
    scope: nn.Module
    scope_name: str

    @property
    def error_source(self) -> ErrorSource:
        return ErrorSource(self.source_name, self.path.batch_axes)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile, DistributedDataParallel and Lightning Fabric."""
    while True:
        inner = next((model._modules[name] for name in WRAPPERS if name in model._modules), None)
        is_wrapper = type(model).__module__.startswith(("torch.nn.parallel", "torch._dynamo", "lightning"))
        if inner is None or not is_wrapper:
            return model
        model = inner


def resolve(model: nn.Module, paths: Iterable[FeedbackPath]) -> list[ResolvedPath]:
    """Find the modules of each path.

    Raises:
        PointNotFound: a pattern matches no module, or `error_at` several.
        PointsOverlap: a module stands in two roles.
    """
    resolved = [_resolve_one(model, path) for path in paths]
    roles: dict[nn.Module, str] = {}
    for number, found in enumerate(resolved):
        for role, modules in (("a point", found.points), ("a cut", found.cuts)):
            for name, module in modules.items():
                described = f"{role} of path {number}"
                if module in roles:
                    raise PointsOverlap(
                        f"The module '{name}' is {roles[module]} and {described}. "
                        f"Give each module one role in one path."
                    )
                roles[module] = described
    return resolved


def _resolve_one(model: nn.Module, path: FeedbackPath) -> ResolvedPath:
    points = _match_all(model, path.points, "feedback point")
    cuts = _match_all(model, path.cuts, "cut")
    source_name = "" if path.error_at is None else _match_one(model, path.error_at)
    scope_name = _common_ancestor([*points, *cuts, source_name] if points else list(cuts))
    scope = model.get_submodule(scope_name)
    while type(scope).forward is nn.Module.forward and scope is not model:  # a ModuleList is never called
        scope_name = scope_name.rpartition(".")[0]
        scope = model.get_submodule(scope_name)
    return ResolvedPath(path, points, cuts, source_name, model.get_submodule(source_name), scope, scope_name)


def _match_all(model: nn.Module, patterns: Iterable[str], role: str) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: module for name, module in _named(model) if name and _matches(name, pattern)}
        if not matching:
            raise PointNotFound(_not_found(model, pattern, role))
        found |= {name: module for name, module in matching.items() if not _is_wrapped(name, matching)}
    unique: dict[int, str] = {}
    for name, module in found.items():  # a module with two names is one point
        unique.setdefault(id(module), name)
    order = {name: position for position, (name, _) in enumerate(_named(model))}
    return {name: found[name] for name in sorted(unique.values(), key=order.__getitem__)}


def _match_one(model: nn.Module, pattern: str) -> str:
    alike = {name: module for name, module in _named(model) if _matches(name, pattern)}
    matching = {id(alike[name]): name for name in reversed(alike) if not _is_wrapped(name, alike)}
    if not matching:
        raise PointNotFound(_not_found(model, pattern, "error source"))
    if len(matching) > 1:
        raise PointNotFound(
            f"The error source '{pattern}' matches {len(matching)} modules ({_listing(sorted(matching.values()))}). "
            f"Give error_at a pattern that matches one."
        )
    return next(iter(matching.values()))


def _named(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    return model.named_modules(remove_duplicate=False)


def _matches(name: str, pattern: str) -> bool:
    names, wanted = name.split(".") if name else [], pattern.split(".")
    return any(_match(n, p) for n in _without_wrappers(names) for p in _without_wrappers(wanted))


def _is_wrapped(name: str, among: Mapping[str, object]) -> bool:
    """Whether a part of the model is matched beside its wrapper (compiled, checkpointed), which is hooked instead."""
    outer, _, last = name.rpartition(".")
    return last in INNER and (outer in among or _is_wrapped(outer, among))


def _match(names: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not names
    if wanted[0] == "**":
        least = 0 if len(wanted) > 1 else 1  # `layers.**` is what is in layers, not layers itself
        return any(_match(names[skipped:], wanted[1:]) for skipped in range(least, len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], wanted[0]) and _match(names[1:], wanted[1:])


def _without_wrappers(parts: Sequence[str]) -> list[list[str]]:
    """A name as it stands, and without what wrappers have added."""
    bare = [part for part in parts if part not in INNER]
    forms = [list(parts), bare]
    while len(bare) > 1 and bare[0] in PREFIXES:
        bare = bare[1:]
        forms.append(bare)
    return forms


def _not_found(model: nn.Module, pattern: str, role: str) -> str:
    names = [name for name, _ in _named(model) if name]
    # One suggestion per shape of name: numbers become *, so that `layers.3.act` suggests `layers.*.act`.
    shapes = list(dict.fromkeys(".".join("*" if p.isdigit() else p for p in name.split(".")) for name in names))
    import difflib  # only on the way to an error

    alike = [name for name in shapes + names if name.count(".") == pattern.count(".")]
    if across := [name for name in names if fnmatch.fnmatchcase(name, pattern)]:
        return (
            f"No module matches the {role} '{pattern}': '*' stands for letters within a name, and does not match dots. "
            f"For {_listing(across, 3)} write '{_across(pattern)}', or name the modules between."
        )
    close = [match for known in (alike, shapes + names) for match in difflib.get_close_matches(pattern, known, 1, 0.5)]
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"No module matches the {role} '{pattern}'. The model has: {_listing(names) or 'no submodules'}.{hint}"


def _across(pattern: str) -> str:
    """A pattern whose `*` matched dots, rewritten to say so."""
    return ".".join(
        "**" if part == "*" else f"**.{part}" if part.startswith("*") else part for part in pattern.split(".")
    )


def _listing(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def _common_ancestor(names: Sequence[str]) -> str:
    split = [name.split(".") if name else [] for name in names]
    common: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
