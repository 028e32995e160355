"""Scenes: what the official layouts mean, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from PIL import Image
from torch.testing import assert_close

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.view_synthesis.blender import load_blender
from dfa_bench.tasks.view_synthesis.images import over_white, read_image, shrink, shrunk_size
from dfa_bench.tasks.view_synthesis.llff import load_llff, recentred
from dfa_bench.tasks.view_synthesis.scenes import check_pose
from dfa_bench.tasks.view_synthesis.standin import spiral_poses
from tests.view_synthesis.scenes import write_blender, write_llff


def blender(folder: Path, **settings):
    return load_blender(folder, "scene", 2.0, 6.0, **settings)


def llff(folder: Path, **settings):
    return load_llff(folder, "scene", folder / "images_8", **settings)


def test_alpha_is_laid_over_white_in_floats(tmp_path):
    Image.fromarray(np.array([[[255, 0, 0, 51], [0, 0, 0, 0]]], np.uint8), "RGBA").save(tmp_path / "r.png")
    assert_close(read_image(tmp_path / "r.png"), torch.tensor([[[1.0, 0.8, 0.8], [1.0, 1.0, 1.0]]]))


@given(integers(1, 9), integers(1, 9), integers(0, 7), integers(0, 7))
@settings(max_examples=40)
def test_shrinking_keeps_the_mean(height, width, more_rows, more_columns):
    image = torch.rand(height + more_rows, width + more_columns, 3, dtype=torch.float64)
    small = shrink(image, height, width)
    assert small.shape == (height, width, 3)
    assert_close(small.mean((0, 1)), image.mean((0, 1)))


def test_shrinking_by_whole_numbers_is_the_mean_of_blocks():
    image = torch.rand(6, 9, 3, dtype=torch.float64)
    assert_close(shrink(image, 2, 3), image.view(2, 3, 3, 3, 3).mean((1, 3)))


def test_shrinking_before_or_after_laying_over_white_is_the_same_with_premultiplied_alpha():
    image = torch.rand(8, 8, 4, dtype=torch.float64)
    premultiplied = torch.cat([image[..., :3] * image[..., 3:], image[..., 3:]], dim=-1)
    small = shrink(premultiplied, 2, 2)
    assert_close(shrink(over_white(image), 2, 2), small[..., :3] + 1 - small[..., 3:])


def test_the_longest_side_is_never_enlarged():
    assert shrunk_size(378, 504, 200) == (150, 200)
    assert shrunk_size(378, 504, 800) == (378, 504)
    assert shrunk_size(378, 504, None) == (378, 504)


def test_a_blender_scene_has_the_splits_and_views_that_its_files_name(tmp_path):
    scene = blender(write_blender(tmp_path / "scene", views=3, size=8))
    assert {split: [view.number for view in views] for split, views in scene.splits.items()} == {
        "train": [0, 1, 2],
        "test": [0, 1, 2],
    }
    assert (scene.height, scene.width, scene.white_background, scene.ndc) == (8, 8, True, False)
    assert scene.camera.fx == pytest.approx(4 / np.tan(0.35))
    with pytest.raises(CorruptData, match="no val views"):
        scene.views("val")


def test_a_smaller_blender_scene_has_a_shorter_focal_length_and_averaged_pixels(tmp_path):
    folder = write_blender(tmp_path / "scene", size=8)
    large, small = blender(folder), blender(folder, longest_side=4)
    assert small.camera.fx == pytest.approx(large.camera.fx / 2)
    block = large.splits["train"][0].load()[:2, :2].mean((0, 1))
    assert_close(small.splits["train"][0].load()[0, 0], block)


def test_llff_holds_out_every_eighth_view_and_recentres(tmp_path):
    scene = llff(write_llff(tmp_path / "scene", views=10))
    assert [view.number for view in scene.splits["test"]] == [0, 8]
    assert [view.number for view in scene.splits["train"]] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert scene.camera.fx == pytest.approx(9)  # an eighth of the full resolution's
    poses = torch.stack([view.pose for views in scene.splits.values() for view in views])
    assert_close(poses[:, :, 3].mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    axes = poses[:, :, :3]
    assert_close(axes.transpose(1, 2) @ axes, torch.eye(3).expand(10, 3, 3))
    assert_close(torch.nn.functional.normalize(axes[:, :, 2].sum(0), dim=0), torch.tensor([0.0, 0.0, 1.0]))


def test_llff_depths_are_scaled_so_that_the_nearest_bound_lies_behind_the_near_plane(tmp_path):
    folder = write_llff(tmp_path / "scene", views=9)
    rows = np.load(folder / "poses_bounds.npy")
    positions = rows[:, :15].reshape(-1, 3, 5)[:, :, 3]
    scene = llff(folder)
    by_number = sorted((view for views in scene.splits.values() for view in views), key=lambda view: view.number)
    moved = torch.stack([view.pose[:, 3] for view in by_number]).double().numpy()
    spread = np.linalg.norm(positions[0] - positions[8])
    assert np.linalg.norm(moved[0] - moved[8]) == pytest.approx(spread / (4.0 * 0.75), rel=1e-5)


def test_recentring_moves_all_cameras_by_one_rigid_motion():
    poses = torch.stack(spiral_poses(7, 3.0)).double().numpy()
    moved = recentred(poses)
    for these in (poses, moved):
        check_pose(torch.from_numpy(these[0]), "")
    distances = [np.linalg.norm(p[:, None, :, 3] - p[None, :, :, 3], axis=-1) for p in (poses, moved)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-6)


# What is refused.


def edit(folder: Path, change) -> None:
    path = folder / "transforms_train.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def set_pose(entry, value):
    def change(values):
        values["frames"][1]["transform_matrix"][entry[0]][entry[1]] = value

    return change


@pytest.mark.parametrize(
    "change, told",
    [
        (set_pose((0, 3), float("nan")), "r_1: the pose has NaN"),
        (set_pose((0, 0), 3.0), "r_1: the pose is not a rotation"),
        (lambda values: values["frames"][1].pop("transform_matrix"), "not a 4 × 4 matrix"),
        (lambda values: values["frames"][1].pop("file_path"), "no file_path"),
        (lambda values: values.update(camera_angle_x=float("nan")), "camera_angle_x"),
        (lambda values: values.pop("camera_angle_x"), "neither fl_x nor camera_angle_x"),
        (lambda values: values.pop("frames"), "is damaged"),
        (lambda values: values.update(frames=values["frames"][:1]), "1 training view;"),
        (lambda values: values.update(frames=[]), "0 training views;"),
    ],
)
def test_a_damaged_transforms_file_is_told(tmp_path, change, told):
    folder = write_blender(tmp_path / "scene")
    edit(folder, change)
    with pytest.raises(CorruptData, match=told):
        blender(folder)


def test_a_mirrored_pose_is_no_rotation():
    pose = torch.eye(3, 4)
    pose[0, 0] = -1
    with pytest.raises(CorruptData, match="determinant -1"):
        check_pose(pose, "here")


def test_a_missing_frame_and_one_of_another_size_are_told(tmp_path):
    folder = write_blender(tmp_path / "scene")
    Image.new("RGBA", (9, 8)).save(folder / "train" / "r_2.png")
    with pytest.raises(CorruptData, match="r_2.png is 9 × 8 pixels, the first view 8 × 8"):
        blender(folder)
    (folder / "train" / "r_2.png").unlink()
    with pytest.raises(CorruptData, match="r_2.png is missing"):
        blender(folder)


@pytest.mark.parametrize("kept", [0, 20, 150])
def test_a_truncated_image_is_told(tmp_path, kept):
    folder = write_blender(tmp_path / "scene")
    path = folder / "train" / "r_2.png"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptData, match="r_2.png is truncated"):
        blender(folder).splits["train"][2].load()


def test_a_damaged_llff_scene_is_told(tmp_path):
    folder = write_llff(tmp_path / "scene")
    rows = np.load(folder / "poses_bounds.npy")
    for change, told in (
        (lambda r: r.__setitem__((2, 15), 60.0), "view 2: the depth bounds are 60 and 50"),
        (lambda r: r.__setitem__((2, 0), np.nan), "view 2: the pose has NaN"),
        (lambda r: r.__setitem__((2, 0), 5.0), "view 2: the pose is not a rotation"),
    ):
        changed = rows.copy()
        change(changed)
        np.save(folder / "poses_bounds.npy", changed)
        with pytest.raises(CorruptData, match=told):
            llff(folder)
    np.save(folder / "poses_bounds.npy", rows[:, :10])
    with pytest.raises(CorruptData, match="expected \\(views, 17\\)"):
        llff(folder)
    np.save(folder / "poses_bounds.npy", rows[:-1])
    with pytest.raises(CorruptData, match="has 10 images, but poses_bounds.npy has 9 poses"):
        llff(folder)
    np.save(folder / "poses_bounds.npy", rows)
    Image.new("RGB", (9, 6)).save(folder / "images_8" / "image003.png")
    with pytest.raises(CorruptData, match="image003.png is 9 × 6"):
        llff(folder)
    (folder / "poses_bounds.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CorruptData, match="is damaged"):
        llff(folder)


def test_an_llff_scene_with_one_view_is_refused(tmp_path):
    with pytest.raises(CorruptData, match="0 training views;"):
        llff(write_llff(tmp_path / "scene", views=1))


def test_the_real_scenes_are_as_their_readme_says(real_data):
    lego = blender(real_data / "nerf_synthetic_200" / "lego")
    assert {split: len(views) for split, views in lego.splits.items()} == {"train": 100, "test": 25}
    assert (lego.height, lego.width) == (200, 200)
    fern = llff(real_data / "nerf_llff_data" / "fern")
    assert {split: len(views) for split, views in fern.splits.items()} == {"train": 17, "test": 3}
    assert (fern.height, fern.width) == (378, 504)


def test_the_smaller_copies_are_what_shrinking_gives(real_data):
    original = blender(real_data / "nerf_synthetic" / "lego", longest_side=200).splits["test"][0]
    copy = blender(real_data / "nerf_synthetic_200" / "lego").splits["test"][0]
    assert (original.load() - copy.load()).abs().max() < 4 / 255  # the copies round colour and alpha to 8 bits
