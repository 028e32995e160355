"""Novel view synthesis (Table 1): learn a scene from photographs, be judged on views that were held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, validate_call
from torch import Tensor, nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import Component, Count, DataSettings
from dfa_bench.tasks.base import ALONE, Shard, Split, Watch, build
from dfa_bench.tasks.indices import sent
from dfa_bench.tasks.view_synthesis.datasets import SceneDataset
from dfa_bench.tasks.view_synthesis.rays import Rays, camera_tensor, rays_through
from dfa_bench.tasks.view_synthesis.scenes import Scene, View
from dfa_bench.tasks.view_synthesis.views import measure_view, psnr


class RayBatch(NamedTuple):
    rays: Rays
    colours: Tensor  # (rays, 3)


class ViewSynthesis:
    """Learn a radiance field from random rays of all training views; an epoch is a fixed number of batches.

    The released code takes the rays of a step from one view; here, as in Mildenhall et al.'s code for real scenes, they
    are from all. Validation only watches: the last step's weights are tested, as in the released code. It is on the
    first validation view, or, where the scene has none, on the last training view, which still trains.

    Args:
        dataset, model, data, seed: see `base.Task`.
        rays: in a batch, over all processes.
        steps_per_epoch: batches between evaluations.
        val_rays: at most so many, on a grid over the view, are rendered for validation.
        test_rays: at most so many over all test views, on a grid over each, at least one a view; None: all pixels, and
            SSIM beside PSNR.

    Raises:
        ConfigError: there are fewer `test_rays` than test views.
    """

    version: ClassVar[int] = 1
    watch: ClassVar[Watch] = Watch("psnr", "higher")
    table: ClassVar[str] = "Table 1"
    draws_for_whole_batch: ClassVar[bool] = True  # see `Rays`
    batch_sizes: ClassVar[tuple[str, ...]] = ("rays",)

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        dataset: SceneDataset,
        model: Component,
        data: DataSettings,
        seed: int,
        rays: Count,
        steps_per_epoch: Count,
        val_rays: Count,
        test_rays: Count | None,
    ) -> None:
        self.scene = dataset.load(data)
        self.model, self.seed = model, seed
        self.rays, self.steps = rays, steps_per_epoch
        self.val_rays, self.test_rays = val_rays, test_rays
        train = self.scene.views("train")
        tested = len(self.scene.views("test"))  # asked for now, not when training is over
        if test_rays is not None and test_rays < tested:
            raise ConfigError(
                f"task.test_rays={test_rays}: {self.scene.name} has {tested} test views, and each is tested on one ray "
                f"at least. Give {tested} or more, or null for all pixels."
            )
        self.poses = torch.stack([view.pose for view in train])  # (views, 3, 4)
        self.cameras = camera_tensor(*(view.camera for view in train))  # (views, 4)
        self.pixels = torch.stack([view.load() for view in train])  # (views, height, width, 3)
        self.mean_colour = self.pixels.mean(dim=(0, 1, 2))

    def build_model(self) -> nn.Module:
        return build_nerf(self.model, self.scene)

    def example(self) -> object:
        return {"rays": self.random_batch(2, torch.Generator().manual_seed(0)).rays}

    def batches(self, epoch: int, shard: Shard) -> RayBatches:
        shard.part_of(self.rays, "task.rays")
        return RayBatches(self, f"{self.seed}/{epoch}/0", shard)

    def data_bytes(self) -> int:
        return self.pixels.nbytes

    def move_data(self, device: torch.device) -> None:
        self.poses, self.cameras, self.pixels = (each.to(device) for each in (self.poses, self.cameras, self.pixels))

    def loss(self, model: nn.Module, batch: RayBatch) -> Tensor:
        """Mean squared error of the coarse colours plus that of the fine ones (Mildenhall et al. 2020, eq. 6)."""
        seen = model(batch.rays)
        return F.mse_loss(seen.coarse.colours, batch.colours) + F.mse_loss(seen.fine.colours, batch.colours)

    def evaluate(self, model: nn.Module, split: Split, shard: Shard = ALONE) -> dict[str, float]:
        """Mean over views of the PSNR in dB of the fine network, the coarse one, and the mean training colour."""
        views = [self._watched()] if split == "val" else list(self.scene.views("test"))
        limit = self.val_rays if split == "val" else self.test_rays
        stride = grid_stride(self.scene, len(views), limit)
        measured = shard.gather([self._measure(model, view, stride) for view in shard.share(views)])
        return {name: sum(each[name] for each in measured) / len(measured) for name in measured[0]}

    def random_batch(self, rays: int, generator: torch.Generator) -> RayBatch:
        """Rays through random pixels of random training views, with their colours."""
        views, height, width, _ = self.pixels.shape
        drawn = [torch.randint(bound, (rays,), generator=generator) for bound in (views, height, width)]
        view, row, column = sent(torch.stack(drawn), self.pixels.device)
        seen = rays_through(self.scene, self.cameras[view], self.poses[view], row, column)
        return RayBatch(seen, self.pixels[view, row, column])

    def _watched(self) -> View:
        return (self.scene.splits.get("val") or self.scene.views("train")[-1:])[0]

    def _measure(self, model: nn.Module, view: View, stride: int) -> dict[str, float]:
        truth = view.load()[::stride, ::stride]
        measured = measure_view(model, self.scene, view, truth, stride)
        mean_colour = psnr(self.mean_colour.expand_as(truth), truth)
        found = {"psnr": measured.psnr, "psnr_coarse": measured.psnr_coarse, "psnr_mean_colour": mean_colour}
        return found if measured.ssim is None else found | {"ssim": measured.ssim}


def build_nerf(model: Component, scene: Scene) -> nn.Module:
    """A model of a run for its scene."""
    built: nn.Module = build(model, "model", near=scene.near, far=scene.far, white_background=scene.white_background)
    return built


class RayBatches:
    """The batches of an epoch, made as they are asked for; the same ones for one seed text.

    Every process draws whole batches, which are cheap, and takes its share of their rays.
    """

    def __init__(self, task: ViewSynthesis, seed: str, shard: Shard) -> None:
        self.task, self.shard = task, shard
        self.seed = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big")

    def __len__(self) -> int:
        return self.task.steps

    def __iter__(self) -> Iterator[RayBatch]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.task.steps):
            rays, colours = self.task.random_batch(self.task.rays, generator)
            mine = slice(self.shard.rank, None, self.shard.of)
            taken = rays.take(mine)._replace(rank=self.shard.rank, of=self.shard.of)
            yield RayBatch(taken, colours[mine])


def grid_stride(scene: Scene, views: int, limit: int | None) -> int:
    """The smallest stride over rows and columns with which so many views have at most `limit` rays in all.

    Args:
        scene: of the views.
        views: how many.
        limit: at least one ray for each view; None: no limit.
    """

    def rays(stride: int) -> int:
        return views * math.ceil(scene.height / stride) * math.ceil(scene.width / stride)

    strides = range(1, max(scene.height, scene.width) + 1)  # with the last one, a view has a single ray
    return next((stride for stride in strides if limit is None or rays(stride) <= limit), strides[-1])
