"""Neural radiance fields (Mildenhall et al. 2020), in the paper's form and in that of the released code."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from dfa_bench.settings.schema import Count, NotNegative
from dfa_bench.tasks.view_synthesis.rays import Rays
from dfa_bench.tasks.view_synthesis.rendering import Rendered, Sampling, render_rays


class Encoding(nn.Module):
    """x, sin 1x, cos 1x, sin 2x, cos 2x, sin 4x, …: powers of two without π, as in the released code.

    Args:
        frequencies: how many powers.
    """

    powers: Tensor  # (frequencies,)

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("powers", 2.0 ** torch.arange(frequencies, dtype=torch.float32), persistent=False)
        self.width = 3 * (1 + 2 * frequencies)

    def forward(self, x: Tensor) -> Tensor:  # (..., 3) -> (..., width)
        angles = x.unsqueeze(-2) * self.powers.to(x.dtype).unsqueeze(-1)  # (..., frequencies, 3)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-2)  # (..., frequencies, 2, 3)
        return torch.cat([x, waves.flatten(-3)], dim=-1)


class Layer(nn.Module):
    """A linear layer and what follows it; the activation is the feedback point."""

    def __init__(self, inputs: int, outputs: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.linear(x))
        return activated


class RadianceField(nn.Module):
    """Colour and density, before their non-linearities, at points that are seen from a direction.

    Args:
        depth: layers of the trunk, from whose last the density is read.
        width: of each; the layer behind the joining of the direction has half of it.
        skip_at: layer of the trunk, counted from 1, whose input the encoded position joins again; None: none.
        feature_activation: of the layer between trunk and direction.
        position_frequencies, direction_frequencies: of the encodings.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        skip_at: int | None,
        feature_activation: nn.Module,
        position_frequencies: int,
        direction_frequencies: int,
    ) -> None:
        super().__init__()
        self.encode_position = Encoding(position_frequencies)
        self.encode_direction = Encoding(direction_frequencies)
        position, direction = self.encode_position.width, self.encode_direction.width
        self.skip_at = skip_at
        inputs = [position] + [width + (position if layer == skip_at else 0) for layer in range(2, depth + 1)]
        self.trunk = nn.ModuleList(Layer(each, width, nn.ReLU()) for each in inputs)
        self.density = nn.Linear(width, 1)
        self.feature = Layer(width, width, feature_activation)
        self.direction = Layer(width + direction, width // 2, nn.ReLU())
        self.colour = nn.Linear(width // 2, 3)

    def forward(self, points: Tensor, view_directions: Tensor) -> Tensor:
        """Raw colour and density.

        Args:
            points: (rays, samples, 3).
            view_directions: (rays, 3).

        Returns:
            (rays, samples, 4).
        """
        position = self.encode_position(points)
        hidden = position
        for number, layer in enumerate(self.trunk, start=1):
            hidden = layer(torch.cat([position, hidden], dim=-1) if number == self.skip_at else hidden)
        direction = self.encode_direction(view_directions).unsqueeze(1).expand(-1, points.shape[1], -1)
        seen = self.direction(torch.cat([self.feature(hidden), direction], dim=-1))
        return torch.cat([self.colour(seen), self.density(hidden)], dim=-1)


class NeRF(nn.Module):
    """Two radiance fields of the same form, coarse and fine, and the renderer: rays in, pixels out.

    Args:
        depth, width, skip_at, position_frequencies, direction_frequencies: see `RadianceField`.
        feature_relu: a ReLU behind the feature layer (the released code); else it is linear (Mildenhall et al.).
        coarse_samples, fine_samples: on each ray; the fine field sees all of them.
        near, far, white_background: of the scene.
        density_noise: standard deviation of what is added to the density in training.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        depth: Count,
        width: Annotated[int, Field(ge=2)],
        skip_at: Annotated[int, Field(ge=2)] | None,
        feature_relu: bool,
        coarse_samples: Annotated[int, Field(ge=3)],
        fine_samples: Count,
        near: NotNegative,
        far: NotNegative,
        white_background: bool,
        position_frequencies: Annotated[int, Field(ge=0)] = 10,
        direction_frequencies: Annotated[int, Field(ge=0)] = 4,
        density_noise: NotNegative = 0.0,
    ) -> None:
        super().__init__()
        if near >= far:
            raise ValueError(f"near={near:g} must be below far={far:g}.")
        if skip_at is not None and skip_at > depth:
            raise ValueError(f"skip_at={skip_at} is beyond the last of depth={depth} layers.")
        self.sampling = Sampling(near, far, coarse_samples, fine_samples, white_background, density_noise)

        def field() -> RadianceField:
            between: nn.Module = nn.ReLU() if feature_relu else nn.Identity()
            return RadianceField(depth, width, skip_at, between, position_frequencies, direction_frequencies)

        self.coarse, self.fine = field(), field()

    def forward(self, rays: Rays) -> Rendered:
        return render_rays(self.coarse, self.fine, rays, self.sampling, self.training)
