"""A user's own scene, as instant-ngp, nerfstudio, Blender or LLFF write it, and what is refused with a sentence."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dfa_bench.errors import ConfigError, CorruptData, MissingData
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.view_synthesis.blender import load_blender
from dfa_bench.tasks.view_synthesis.cameras import Camera
from dfa_bench.tasks.view_synthesis.rays import camera_tensor, rays_through
from dfa_bench.training.execute import execute
from tests.view_synthesis.scenes import CAMERA, edit, write_blender, write_llff, write_transforms

OWN = "task=view_synthesis", "data.stand_in=false", "trainer.max_epochs=1"


def load(folder, longest_side=None):
    return load_blender(folder, "mine", None, None, longest_side)


def seen_by_opencv(pose: torch.Tensor, camera: dict[str, float], point: torch.Tensor) -> tuple[float, float]:
    """Column and row, counted from the image's edge, of a point: OpenCV's pinhole camera, y down and z forward."""
    x, y, z = pose[:, :3].T @ (point - pose[:, 3]) * torch.tensor([1.0, -1.0, -1.0])
    return float(camera["fl_x"] * x / z + camera["cx"]), float(camera["fl_y"] * y / z + camera["cy"])


@pytest.mark.parametrize("shrunk", [None, 20])
@pytest.mark.parametrize("size", [(24, 40), (40, 24), (36, 64)])
def test_a_ray_goes_through_the_point_that_its_pixel_shows(tmp_path, size, shrunk):
    """Different fl_x and fl_y, a middle off the centre; landscape, portrait and 16:9; also shrunk."""
    camera = {**CAMERA, "w": size[1], "h": size[0]}
    scene = load(write_transforms(tmp_path / "mine", size=size, camera=camera), shrunk)
    scale = (shrunk or max(size)) / max(size)
    assert (scene.height, scene.width) == (round(size[0] * scale), round(size[1] * scale))
    across, down = scene.width / size[1], scene.height / size[0]
    view = scene.views("train")[3]
    point = torch.tensor([0.3, -0.2, 0.1])
    column, row = seen_by_opencv(view.pose, camera, point)
    pixel = torch.tensor([row * down - 0.5]), torch.tensor([column * across - 0.5])  # middles of pixels are at 0.5
    rays = rays_through(scene, camera_tensor(view.camera), view.pose, *pixel)
    along = (point - rays.origins) @ rays.directions[0] / rays.directions.square().sum()
    assert_close(rays.origins + along * rays.directions, point.unsqueeze(0), atol=1e-5, rtol=0)


def test_intrinsics_of_a_frame_go_before_those_of_the_file(tmp_path):
    folder = write_transforms(tmp_path / "mine")
    edit(folder / "transforms.json", lambda values: values["frames"][1].update(fl_x=70.0, cx=20.0))
    first, second = load(folder).views("train")[:2]
    assert first.camera == Camera(70.0, 44.0, 19.5, 9.75)
    assert second.camera == Camera(50.0, 44.0, 21.0, 9.75)


def test_intrinsics_are_those_of_the_images_size_when_the_images_are_smaller_copies(tmp_path):
    camera = {**CAMERA, "w": 4 * 40, "h": 4 * 24}
    assert load(write_transforms(tmp_path / "mine", camera=camera)).camera == Camera(12.5, 11.0, 4.875, 2.0625)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"camera_angle_x": 0.8}, (20 / np.tan(0.4), 20 / np.tan(0.4))),
        ({"camera_angle_x": 0.8, "camera_angle_y": 0.5}, (20 / np.tan(0.4), 12 / np.tan(0.25))),
        ({"fl_x": 50.0}, (50.0, 50.0)),
        ({"fl_x": 50.0, "camera_angle_x": 0.8, "camera_angle_y": 0.5}, (50.0, 50.0)),
        ({"camera_angle_x": 0.8, "fl_x": 50.0, "fl_y": 44.0}, (50.0, 44.0)),
    ],
)
def test_the_focal_lengths_are_fl_or_follow_from_the_angle_and_square_pixels(tmp_path, given, expected):
    camera = load(write_transforms(tmp_path / "mine", camera=given)).camera
    assert (camera.fx, camera.fy) == pytest.approx(expected)
    assert (camera.cx, camera.cy) == (20, 12)


@pytest.mark.parametrize("change", [{"ending": "png", "mode": "RGBA"}, {"separator": "\\"}, {"ending": "JPG"}])
def test_names_and_kinds_of_images_are_taken_as_they_come(tmp_path, change):
    folder = write_transforms(tmp_path / "mine", **change)
    (folder / "images" / "._0000.png").write_bytes(b"of the Finder")
    scene = load(folder)
    assert len(scene.views("train")) + len(scene.views("test")) == 10
    assert scene.views("train")[0].load().shape == (24, 40, 3)
    assert scene.white_background == (change.get("mode") == "RGBA")


def test_a_missing_ending_is_found(tmp_path):
    folder = write_transforms(tmp_path / "mine", ending="jpeg")

    def without_endings(values):
        for frame in values["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".jpeg")

    edit(folder / "transforms.json", without_endings)
    assert load(folder).views("test")[0].name == "0000"


def test_a_single_file_is_split_the_same_way_each_time_and_says_so(tmp_path, capsys):
    folder = write_transforms(tmp_path / "mine")
    edit(folder / "transforms.json", lambda values: values["frames"].reverse())
    scene = load(folder)
    assert [view.number for view in scene.views("test")] == [0, 8]
    assert [view.number for view in scene.views("train")] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert "every 8th of the 10 views is tested (2)" in capsys.readouterr().err


def test_the_split_that_nerfstudio_writes_is_kept(tmp_path, capsys):
    folder = write_transforms(tmp_path / "mine")
    names = [f"images/{number:04d}.jpg" for number in range(10)]
    lists = {"train_filenames": names[:7], "val_filenames": names[7:8], "test_filenames": names[8:]}
    edit(folder / "transforms.json", lambda values: values.update(lists))
    assert {split: len(views) for split, views in load(folder).splits.items()} == {"train": 7, "val": 1, "test": 2}
    assert "every 8th" not in capsys.readouterr().err
    edit(folder / "transforms.json", lambda values: values.update(test_filenames=["images/nope.jpg"]))
    with pytest.raises(CorruptData, match=r"nope.jpg is listed in a split, but has no frame"):
        load(folder)


def test_images_without_a_pose_are_left_out(tmp_path):
    folder = write_transforms(tmp_path / "mine")
    edit(folder / "transforms.json", lambda values: values["frames"].pop(3))
    assert sorted(view.number for views in load(folder).splits.values() for view in views) == [0, 1, 2, *range(4, 10)]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"k1": 0.03}, r"the lens distorts \(k1=0.03\).*Undistort the images first"),
        ({"p2": -1e-3, "k2": 0.0}, r"the lens distorts \(p2=-0.001\)"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model=OPENCV_FISHEYE is not supported"),
        ({"is_fisheye": True}, "is_fisheye is not supported"),
        ({"fl_x": "wide"}, "fl_x is 'wide'; expected a positive number"),
        ({"fl_y": -3}, "fl_y is -3; expected a positive number"),
        ({"cx": None}, "cx is None; expected a positive number"),
        ({"w": 24, "h": 40}, "w=24 and h=40, but the image has 40 × 24 pixels"),
        ({"camera_angle_x": 4.0, "fl_x": None}, "fl_x is None"),
    ],
)
def test_what_no_pinhole_camera_has_is_refused(tmp_path, change, told):
    folder = write_transforms(tmp_path / "mine", camera={**CAMERA, **change})
    with pytest.raises(CorruptData, match=told):
        load(folder)


def test_a_model_with_distortion_whose_coefficients_are_zero_is_a_pinhole_camera(tmp_path):
    zeros = {"camera_model": "OPENCV", "k1": 0, "k2": 0.0, "p1": 0, "p2": 0}
    assert load(write_transforms(tmp_path / "mine", camera={**CAMERA, **zeros})).camera.fx == 50


def test_distortion_of_one_frame_is_refused_too(tmp_path):
    folder = write_transforms(tmp_path / "mine")
    edit(folder / "transforms.json", lambda values: values["frames"][4].update(k1=0.1))
    with pytest.raises(CorruptData, match="0004: the lens distorts"):
        load(folder)


def test_a_frame_whose_image_is_missing_or_of_another_size_is_told(tmp_path):
    folder = write_transforms(tmp_path / "mine")
    Image.new("RGB", (24, 40)).save(folder / "images" / "0005.jpg")
    with pytest.raises(CorruptData, match="0005.jpg is 24 × 40 pixels, the first view 40 × 24"):
        load(folder)
    (folder / "images" / "0005.jpg").unlink()
    with pytest.raises(CorruptData, match="0005.jpg is missing"):
        load(folder)


def test_depths_follow_from_the_cameras_of_an_object_as_in_the_official_scenes(tmp_path, capsys):
    objects = load(write_transforms(tmp_path / "object", ending="png", mode="RGBA"))
    assert (objects.near, objects.far) == pytest.approx((1.5, 4.5), rel=1e-3)  # cameras 3 from what they look at
    photographs = load(write_transforms(tmp_path / "photographs"))
    assert (photographs.near, photographs.far) == pytest.approx((0.3, 12), rel=1e-3)
    assert "dataset.near and dataset.far set others" in capsys.readouterr().err


def test_cameras_that_look_at_nothing_in_common_need_depths(tmp_path):
    folder = write_transforms(tmp_path / "mine")

    def look_one_way(values):
        for number, frame in enumerate(values["frames"]):
            frame["transform_matrix"] = [[1, 0, 0, number], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

    edit(folder / "transforms.json", look_one_way)
    with pytest.raises(ConfigError, match=r"Give the depths .* dataset.near=… dataset.far=…"):
        load(folder)
    assert load_blender(folder, "mine", 1.0, 5.0).far == 5


@pytest.mark.parametrize(
    "write, kind", [(write_transforms, "blender"), (write_blender, "blender"), (write_llff, "llff")]
)
def test_an_own_scene_trains_from_its_folder_or_below_data_root_and_is_never_the_papers(smoke, tmp_path, write, kind):
    write(tmp_path / {"blender": "nerf_synthetic", "llff": "nerf_llff_data"}[kind] / "mine")
    write(tmp_path / "elsewhere")
    images = ["dataset.images=images_8"] if kind == "llff" else []
    chosen = *OWN, f"dataset={kind}", "dataset.name=mine", *images
    first = execute(smoke(*chosen, f"data.root={tmp_path}")).result
    second = execute(smoke(*chosen, f"dataset.folder={tmp_path / 'elsewhere'}"))
    assert (first.dataset, first.protocol) == ("mine", "reduced")
    card = first.card
    assert (card.kind, card.rows) == ("real", {write_blender: 8}.get(write, 10))
    assert second.result.metrics["test/psnr"] == first.metrics["test/psnr"]
    assert second.reused  # the same scene, wherever it lies


def test_real_scenes_of_a_user_are_trained_as_the_papers_real_ones(smoke):
    own, fern, object_ = (
        smoke("task=view_synthesis", "scale=paper", *chosen)
        for chosen in (["dataset=llff", "dataset.name=mine"], ["dataset=fern"], ["dataset=lego"])
    )
    assert own.task == fern.task != object_.task
    assert own.trainer == fern.trainer
    assert own.recipe == fern.recipe != object_.recipe
    assert own.model == fern.model


def test_an_llff_scene_may_have_its_images_in_one_folder_only(smoke, tmp_path):
    folder = write_llff(tmp_path / "mine", size=(24, 32))
    (folder / "images_8").rename(folder / "images")
    chosen = *OWN, "dataset=llff", "dataset.name=mine", f"dataset.folder={folder}"

    def size(*more):
        settings = smoke(*chosen, *more)
        scene = build_dataset(settings).load(settings.data)
        return scene.height, scene.width, scene.camera.fx

    assert size("dataset.images=images_4") == (6, 8, pytest.approx(72 * 8 / 64 / 4))
    assert size("dataset.images=images_4", "dataset.longest_side=16")[:2] == (12, 16)
    (folder / "images").rename(folder / "photos")
    assert size("dataset.images=photos")[:2] == (24, 32)
    with pytest.raises(MissingData, match="not in images_4. There is only photos: set dataset.images=NAME"):
        size("dataset.images=images_4")


def test_fewer_poses_than_images_are_told_as_the_file_does_not_say_whose_they_are(tmp_path, smoke):
    folder = write_llff(tmp_path / "mine")
    np.save(folder / "poses_bounds.npy", np.load(folder / "poses_bounds.npy")[:-2])
    settings = smoke(*OWN, "dataset=llff", "dataset.name=m", f"dataset.folder={folder}", "dataset.images=images_8")
    with pytest.raises(CorruptData, match=r"10 images, but .* has 8 poses.*Remove the images without a pose"):
        build_dataset(settings).load(settings.data)
    (folder / "images_8" / "image008.png").unlink()
    (folder / "images_8" / "image009.png").rename(folder / "images_8" / "._image009.png")
    assert len(build_dataset(settings).load(settings.data).views("test")) == 1


@pytest.mark.parametrize(
    "chosen, told",
    [
        (["dataset=blender", "dataset.folder={root}/nowhere"], "there is no such folder"),
        (["dataset=blender", "dataset.folder={root}/llff"], "has no transforms.json or .* use dataset=llff"),
        (["dataset=llff", "dataset.folder={root}/ngp"], "has no poses_bounds.npy.* use dataset=blender"),
        (["dataset=llff", "dataset.folder={root}"], "has no poses_bounds.npy. docs/own_data.md"),
        (
            ["dataset=blender", "data.root={root}"],
            "The scene mine was not found.*give its folder with dataset.folder=DIR",
        ),
    ],
)
def test_a_scene_that_is_not_there_is_told(smoke, tmp_path, chosen, told):
    write_llff(tmp_path / "llff")
    write_transforms(tmp_path / "ngp")
    settings = smoke(*OWN, "dataset.name=mine", *(each.format(root=tmp_path) for each in chosen))
    with pytest.raises(MissingData, match=told):
        build_dataset(settings).card(settings.data)


@pytest.mark.parametrize("kind", ["blender", "llff"])
def test_a_scene_without_a_name_is_told(smoke, kind):
    with pytest.raises(ConfigError, match="The setting 'dataset.name' is missing. Give it as dataset.name=VALUE"):
        smoke("task=view_synthesis", f"dataset={kind}")


def test_a_name_that_no_folder_can_have_is_refused(smoke):
    settings = smoke("task=view_synthesis", "dataset=blender", "dataset.name=../mine")
    with pytest.raises(ConfigError, match="dataset.name=../mine"):
        build_dataset(settings)


def test_a_scene_without_test_views_is_told_before_training(smoke, tmp_path):
    folder = write_blender(tmp_path / "mine", splits=("train",))
    with pytest.raises(CorruptData, match="has no test views"):
        execute(smoke(*OWN, "dataset=blender", "dataset.name=mine", f"dataset.folder={folder}"))


def test_a_file_that_is_not_json_is_told(tmp_path):
    folder = write_transforms(tmp_path / "mine")
    text = json.dumps({"frames": []})
    for damaged in (text[:-3], "[]", '{"frames": "images\\0001.jpg"}'):
        (folder / "transforms.json").write_text(damaged)
        with pytest.raises(CorruptData, match="transforms.json is damaged"):
            load(folder)
