"""The feedback matrix B: drawn once, scaled once, sliced to each point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Distribution = Literal["uniform", "normal", "orthogonal"]


@dataclass(frozen=True)
class MatrixRecipe:
    """How the matrix of a path is drawn: the first settings of `DirectFeedback`, which says what each one means."""

    seed: int = 0
    distribution: Distribution = "uniform"
    scale: float | None = None
    shared: bool = True
    density: float = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_choice("distribution", self.distribution, Distribution)
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise ValueError(f"scale={self.scale}: give a positive number, or None for 1/sqrt(widest point).")
        if not 0 < self.density <= 1:
            raise ValueError(f"density={self.density}: give a share above 0, up to 1.")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank={self.rank}: give a whole number from 1, or None for a matrix of full rank.")
        if self.distribution == "orthogonal" and (self.density < 1 or self.rank is not None):
            raise ValueError("distribution='orthogonal' is for a dense matrix of full rank: leave density and rank.")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed}: give a whole number from 0 to 2^63 - 1.")


def check_choice(name: str, given: str, choices: Any) -> None:
    """Args: `choices` is a Literal."""
    if given not in get_args(choices):
        raise ValueError(f"{name}='{given}': choose one of {', '.join(map(repr, get_args(choices)))}.")


def draw_matrix(recipe: MatrixRecipe, path_number: int, error_width: int, widths: Mapping[str, int]) -> Tensor:
    """Draw B of one path, in float32 on the CPU, so that a seed gives the same B on every device.

    Args:
        recipe: distribution, scale, seed and sharing.
        path_number: the paths of a model draw from streams of their own.
        error_width: width of the error δa_y.
        widths: flattened width of each point.

    Returns:
        Shape (error_width, widest point) if shared, else (error_width, sum of widths); with a rank it is V, with
        `rank` rows.
    """
    generator, rows = _generator(recipe, path_number), recipe.rank or error_width
    if recipe.shared:
        return _draw_block(recipe, rows, max(widths.values()), generator)
    return torch.cat([_draw_block(recipe, rows, width, generator) for width in widths.values()], dim=1)


def draw_factor(recipe: MatrixRecipe, path_number: int, error_width: int) -> Tensor | None:
    """U of a matrix of low rank, (error width, rank), with entries of root mean square 1/sqrt(rank), so that those of
    U V are as large as those of V; None for a matrix of full rank."""
    if recipe.rank is None:
        return None
    drawn = torch.empty(error_width, recipe.rank)
    drawn.normal_(generator=_generator(recipe, path_number, offset=1))
    return drawn.div_(recipe.rank**0.5)


def _generator(recipe: MatrixRecipe, path_number: int, offset: int = 0) -> torch.Generator:
    generator = torch.Generator().manual_seed(recipe.seed)
    stream = int(torch.randint(2**62, (path_number + 1,), generator=generator)[path_number])
    return generator.manual_seed(stream + offset)


def columns(recipe: MatrixRecipe, widths: Mapping[str, int]) -> dict[str, int]:
    """First column of each point in the matrix that `draw_matrix` returns."""
    if recipe.shared:
        return dict.fromkeys(widths, 0)
    starts, start = {}, 0
    for name, width in widths.items():
        starts[name] = start
        start += width
    return starts


def _draw_block(recipe: MatrixRecipe, rows: int, width: int, generator: torch.Generator) -> Tensor:
    block = torch.empty(rows, width)
    if recipe.distribution == "uniform":
        block.uniform_(-1, 1, generator=generator)
    elif recipe.distribution == "normal":
        block.normal_(generator=generator)
    else:
        torch.nn.init.orthogonal_(block, generator=generator)
    if recipe.density < 1:
        kept = torch.empty_like(block).bernoulli_(recipe.density, generator=generator)
        block.mul_(kept).div_(recipe.density**0.5)
    default = 1.0 if recipe.distribution == "orthogonal" else width**-0.5
    return block.mul_(default if recipe.scale is None else recipe.scale)
