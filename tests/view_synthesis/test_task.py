"""The task: batches, validation and test, and what learns from what."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from dfa_bench.errors import ConfigError, MissingData
from dfa_bench.runs.record import Record
from dfa_bench.tasks.base import Shard, build_dataset, build_task
from dfa_bench.tasks.view_synthesis.models import NeRF
from dfa_bench.tasks.view_synthesis.rays import view_rays
from dfa_bench.tasks.view_synthesis.standin import stand_in_scene
from dfa_bench.tasks.view_synthesis.task import grid_stride
from dfa_bench.tasks.view_synthesis.views import psnr, ssim
from dfa_bench.training.execute import execute
from dfa_bench.training.trainer import Trainer, build_fabric, build_learner
from tests.view_synthesis.scenes import edit, write_blender, write_llff

ROOT = Path(__file__).parents[2]
NERF = "task=view_synthesis", "model=nerf", "dataset=lego"


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_under_dfa_every_parameter_learns_and_none_in_two_ways(smoke, variant):
    settings = smoke(*NERF, f"variant={variant}", "rule=dfa")
    _, attachment = build_learner(settings, build_task(settings))
    described = attachment.describe()
    assert described.both == []
    assert all(described.learns_from.values())


def test_rays_are_not_rounded_in_mixed_precision(smoke, tmp_path):
    """The encoding multiplies their digits by up to 512, and evaluation sees all of them."""
    settings = smoke(*NERF, "rule=dfa", "trainer.precision=bf16-mixed")
    trainer = Trainer(build_fabric(settings), settings, Record(tmp_path), "identity")
    seen = []
    trainer.model.register_forward_pre_hook(lambda model, inputs: seen.extend(inputs))
    batch = next(iter(trainer.feed.batches(1, trainer.shard)))
    trainer.step(batch)
    assert_close(seen[0].origins, trainer.fabric.to_device(batch)[0].origins, rtol=0, atol=0)


def test_shallow_trains_the_two_heads_of_each_network_only(smoke):
    settings = smoke(*NERF, "rule=shallow")
    _, attachment = build_learner(settings, build_task(settings))
    learning = {name for name, sources in attachment.describe().learns_from.items() if sources}
    heads = {
        f"{field}.{head}.{kind}"
        for field in ("coarse", "fine")
        for head in ("colour", "density")
        for kind in ("weight", "bias")
    }
    assert learning == heads


@pytest.mark.parametrize(
    "variant, trunk", [("released", [63, 32, 32, 32]), ("paper", [63, 32, 32, 32, 32, 95, 32, 32])]
)
def test_the_variants_are_the_two_networks_of_paper_and_code(smoke, variant, trunk):
    task = build_task(smoke(*NERF, f"variant={variant}"))
    for field in (task.build_model().coarse, task.build_model().fine):
        assert [layer.linear.in_features for layer in field.trunk] == trunk
        assert isinstance(field.feature.activation, torch.nn.ReLU) == (variant == "released")
        assert field.direction.linear.in_features == 32 + 27


def test_the_error_of_each_path_is_four_wide(smoke):
    settings = smoke(*NERF, "rule=dfa")
    _, attachment = build_learner(settings, build_task(settings))
    assert [matrix.shape[0] for matrix in attachment.matrices] == [4, 4]


def test_batches_are_the_same_for_one_seed_and_epoch_and_differ_otherwise(smoke):
    task, same, other = (build_task(smoke(*NERF, f"seed={seed}")) for seed in (1, 1, 2))
    first = next(iter(task.batches(1, Shard())))
    assert_close(first, next(iter(same.batches(1, Shard()))))
    for different in (other.batches(1, Shard()), task.batches(2, Shard()), task.batches(1, Shard(1, 2))):
        assert not torch.equal(first.colours, next(iter(different)).colours)
    assert len(task.batches(1, Shard())) == len(list(task.batches(1, Shard()))) == 5
    assert next(iter(task.batches(1, Shard(0, 2)))).colours.shape == (32, 3)


def test_a_batch_has_the_colours_of_the_pixels_that_its_rays_go_through(smoke):
    task = build_task(smoke(*NERF))
    batch = next(iter(task.batches(1, Shard())))
    views = task.scene.views("train")
    directions = torch.cat([view_rays(task.scene, view.camera, view.pose).directions for view in views])
    colours = torch.cat([view.load().flatten(0, 1) for view in views])
    for direction, colour in zip(batch.rays.directions[:10], batch.colours[:10], strict=True):
        place = (directions - direction).norm(dim=-1).argmin()
        assert_close(colours[place], colour)


def test_psnr_and_ssim_are_what_they_are_defined_as():
    truth = torch.rand(32, 32, 3)
    assert psnr(truth + 0.1, truth) == pytest.approx(20, abs=1e-4)
    assert psnr(truth, truth) == float("inf")
    assert ssim(truth, truth) == pytest.approx(1)
    assert ssim(torch.rand(32, 32, 3), truth) < 0.2


def test_the_grid_of_a_test_has_at_most_as_many_rays_as_allowed():
    scene = stand_in_scene()
    assert grid_stride(scene, 3, None) == 1
    assert grid_stride(scene, 3, 3 * 32 * 32) == 1
    assert grid_stride(scene, 3, 3 * 32 * 32 - 1) == 2
    assert grid_stride(scene, 3, 3) == 32


def test_fewer_test_rays_than_views_are_refused_before_training(smoke):
    with pytest.raises(ConfigError, match="task.test_rays=2: stand-in has 3 test views"):
        build_task(smoke(*NERF, "task.test_rays=2"))
    task = build_task(smoke(*NERF, "task.test_rays=3", "task.val_rays=1"))
    assert task.evaluate(task.build_model().eval(), "test").keys() == task.evaluate(task.build_model(), "val").keys()


def test_whole_test_images_have_ssim_too(smoke):
    task = build_task(smoke(*NERF, "task.test_rays=null"))
    found = task.evaluate(task.build_model().eval(), "test")
    assert found.keys() == {"psnr", "psnr_coarse", "psnr_mean_colour", "ssim"}


def test_a_model_learns_the_analytic_scene_by_bp_and_dfa(smoke):
    """Both rules beat the mean colour in 150 steps from the same weights."""
    for rule in ("bp", "dfa"):
        changes = "task.steps_per_epoch=150", "trainer.max_epochs=1", "recipe.lr=3e-3", "model.density_noise=1"
        metrics = execute(smoke(*NERF, f"rule={rule}", *changes, "trainer.threads=1")).result.metrics
        assert metrics["test/psnr"] > metrics["test/psnr_mean_colour"], rule


@pytest.mark.parametrize("width", [425, 512])
@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_wider_networks_of_appendix_e_train(smoke, scale, width):
    small = "task.rays=4", "task.steps_per_epoch=1", "task.test_rays=4", "task.val_rays=4", "trainer.max_epochs=1"
    wide = f"scale={scale}", f"model.width={width}", "data.stand_in=true", *small
    settings = smoke(*NERF, *wide, "model.coarse_samples=4", "model.fine_samples=4")
    layer = build_task(settings).build_model().coarse.trunk[1].linear
    assert (layer.in_features, layer.out_features) == (width, width)
    assert "test/psnr" in execute(settings).result.metrics


@pytest.mark.parametrize(
    "change, told",
    [
        ("dataset.near=7", "near=7 must be below far=6"),
        ("dataset.near=-1", "near"),
        ("model.skip_at=9", "skip_at=9"),
        ("model.width=1", "model.width=1"),
        ("task.rays=0", "task.rays=0"),
        ("dataset.layout=colmap", "layout"),
    ],
)
def test_impossible_settings_are_refused(smoke, change, told):
    with pytest.raises(ConfigError, match=told):
        build_task(smoke(*NERF, change)).build_model()


@pytest.mark.parametrize("layout", ["blender", "llff"])
def test_a_scene_of_the_official_layout_trains(smoke, tmp_path, layout):
    if layout == "blender":
        write_blender(tmp_path / "nerf_synthetic" / "lego")
        dataset = "dataset=lego"
    else:
        write_llff(tmp_path / "nerf_llff_data" / "fern")
        dataset = "dataset=fern"
    here = f"data.root={tmp_path}", "data.stand_in=false", "dataset.images=images_8", "trainer.max_epochs=1"
    result = execute(smoke(*NERF[:2], dataset, *here)).result
    assert result.data_kind == "real"
    assert json.dumps(result.metrics)
    assert "test/psnr" in result.metrics


def test_what_is_here_is_hashed_and_what_is_not_is_told(smoke, tmp_path):
    where = f"data.root={tmp_path}", f"data.cache={tmp_path / 'cache'}"
    settings = smoke(*NERF, "data.stand_in=false", "dataset.longest_side=200", *where)
    with pytest.raises(MissingData, match="The scene lego was not found"):
        build_dataset(settings).card(settings.data)
    folder = write_blender(Path(tmp_path) / "nerf_synthetic" / "lego")
    before = build_dataset(settings).card(settings.data)
    assert (before.rows, before.whole) == (8, False)
    (folder / "test" / "._r_0.png").write_bytes(b"of the Finder")
    assert build_dataset(settings).card(settings.data) == before
    assert len(list((tmp_path / "cache" / "scene-checksums").iterdir())) == 1  # for other processes too
    (folder / "test" / "r_0.png").write_bytes((folder / "test" / "r_1.png").read_bytes())
    assert build_dataset(settings).card(settings.data).sha256 != before.sha256


def test_a_scene_is_whole_when_its_training_and_test_views_are(smoke, tmp_path):
    settings = smoke(*NERF, "data.stand_in=false", f"data.root={tmp_path}")
    folder = write_blender(tmp_path / "nerf_synthetic" / "lego", views=200, size=1)
    train, test = (folder / f"transforms_{split}.json" for split in ("train", "test"))
    assert not build_dataset(settings).card(settings.data).whole  # of 200 training views
    edit(train, lambda values: values["frames"].__delitem__(slice(100, None)))
    assert build_dataset(settings).card(settings.data).whole  # validation is no part of the protocol
    edit(test, lambda values: values["frames"].pop())
    assert not build_dataset(settings).card(settings.data).whole


def test_the_scenes_of_table_1_are_those_that_its_runs_were_made_from(real_data, smoke):
    recorded = pd.read_csv(ROOT / "results" / "runs.csv").query("task == 'view_synthesis' and data_kind == 'real'")
    for scene in ("lego", "chair", "fern", "flower"):
        settings = smoke(
            *NERF[:2],
            f"dataset={scene}",
            "data.stand_in=false",
            "dataset.longest_side=200",
            "dataset.images=images_8",
            f"data.root={real_data}",
        )
        card = build_dataset(settings).card(settings.data)
        assert set(recorded[recorded.dataset == scene].data_sha256) == {card.sha256}


def test_near_must_be_below_far():
    with pytest.raises(ValueError, match="must be below"):
        NeRF(4, 16, None, True, 8, 8, near=6.0, far=2.0, white_background=True)
