"""`dfa-bench evaluate-checkpoint` and `render`: what they print and write, and what they refuse."""

import dataclasses
import hashlib
import json
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from dfa_bench.errors import ConfigError, Preempted
from dfa_bench.reporting import evaluating
from dfa_bench.reporting.figures.views import consistency
from dfa_bench.reporting.forms import CSV_COLUMNS
from dfa_bench.reporting.released import evaluated
from dfa_bench.tasks.view_synthesis import views as rendering
from dfa_bench.tasks.view_synthesis.camera_paths import orbit
from dfa_bench.tasks.view_synthesis.consistency import to_pixels
from dfa_bench.tasks.view_synthesis.rays import view_rays
from dfa_bench.tasks.view_synthesis.scenes import check_pose
from dfa_bench.tasks.view_synthesis.standin import stand_in_scene, trace
from dfa_bench.tasks.view_synthesis.views import Render
from dfa_bench.training.execute import execute
from tests.view_synthesis.scenes import write_blender, write_llff
from tests.view_synthesis.test_checkpoints import released_state, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with two small scenes and a model for each."""
    torch.manual_seed(0)
    write_blender(tmp_path / "nerf_synthetic" / "lego", views=3, size=8)
    write_llff(tmp_path / "nerf_llff_data" / "fern", views=9)
    (tmp_path / "nerf_checkpoints").mkdir()
    for name in ("synth_lego", "real_fern"):
        write(tmp_path / "nerf_checkpoints" / f"{name}_dfa.ckpt", released_state(8), released_state(8))
    return tmp_path


def test_views_are_measured_on_a_grid_and_written(say, root):
    file = root / "out" / "lego.json"
    code, out, _ = say(
        "evaluate-checkpoint", "lego", "--stride", "4", "--views", "2,0", "--json", str(file), f"data.root={root}"
    )
    assert code == 0
    written = json.loads(file.read_text())
    assert [(view["view"], view["number"], view["rays"]) for view in written["views"]] == [("r_2", 2, 4), ("r_0", 0, 4)]
    assert written["mean"]["psnr"] == pytest.approx(sum(view["psnr"] for view in written["views"]) / 2)
    assert written["paper"] == {
        "row": "NeRF-Synthetic",
        "dfa": 25.41,
        "source": "Launay et al. 2020, Table 1, mean over 8 scenes",
    }
    assert (written["data"]["kind"], written["protocol"]) == ("real", "reduced")  # two views of a small scene
    checkpoint = root / "nerf_checkpoints" / "synth_lego_dfa.ckpt"
    assert written["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for view in written["views"]:
        assert f"{view['psnr']:.2f}" in out


def test_whole_images_have_ssim(say, root):
    file = root / "lego.json"
    write_blender(root / "big" / "nerf_synthetic" / "lego", views=2, size=16)
    checkpoint = root / "nerf_checkpoints" / "synth_lego_dfa.ckpt"
    where = "--checkpoint", str(checkpoint), f"data.root={root / 'big'}"
    assert say("evaluate-checkpoint", "lego", "--stride", "1", "--views", "0", "--json", str(file), *where)[0] == 0
    written = json.loads(file.read_text())
    assert -1 <= written["mean"]["ssim"] <= 1
    assert written["protocol"] == "reduced"  # whose training a file given by hand has is not known


def test_the_nearest_view_of_a_real_scene_is_the_one_nearest_to_the_mean_position(say, root):
    file = root / "fern.json"
    where = "--stride", "3", "--json", str(file), f"data.root={root}"
    code, out, _ = say("evaluate-checkpoint", "fern", "--views", "nearest", *where)
    assert (code, "1 view of fern" in out) == (0, True)
    assert [view["number"] for view in json.loads(file.read_text())["views"]] == [4]  # of 9 in a row


def test_train_mode_draws_depths_and_the_noise_of_real_scenes_from_one_seed(say, root):
    def measured(*options: str) -> dict:
        file = root / "fern.json"
        assert say("evaluate-checkpoint", "fern", *options, "--json", str(file), f"data.root={root}")[0] == 0
        written = json.loads(file.read_text())
        return {"mode": written["mode"], **{view["view"]: view["psnr"] for view in written["views"]}}

    fixed, drawn, again = measured(), measured("--train-mode"), measured("--train-mode")
    assert (fixed.pop("mode"), drawn["mode"]) == ("evaluation", "train")
    assert drawn == again
    assert all(drawn[view] != value for view, value in fixed.items())


def test_the_protocol_is_the_papers_for_all_test_views_of_a_whole_scene_at_its_resolution(say, real_data, tmp_path):
    def protocol(*words: str) -> str:
        file = tmp_path / "out.json"
        where = "--stride", "400", "--json", str(file), f"data.root={real_data}"
        assert say("evaluate-checkpoint", *words, *where)[0] == 0
        return json.loads(file.read_text())["protocol"]

    assert protocol("fern") == "paper"
    assert protocol("fern", "--views", "0,8,16") == "paper"
    assert protocol("fern", "dataset.images=images_8") == "reduced"
    assert protocol("fern", "--views", "8") == "reduced"
    assert protocol("chair") == "reduced"  # of which a part is here, and small


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["nope"], "'dataset/nope'"),
        (["lego", "--views", "7"], "no test view '7' here. Choose from 0, 1, 2"),
        (["lego", "--stride", "0"], "'0' is not a whole number"),
        (["lego", "--chunk", "3"], "--chunk"),
        (["lego", "--checkpoint", "none.ckpt"], "The checkpoint none.ckpt does not exist"),
        (["chair"], "The scene chair was not found"),
        (["lego", "data.stand_in=true"], "data.stand_in=true: the released models are of photographs"),
        (["lego", "scale=smoke"], "data.stand_in=true: the released models are of photographs"),
        (["cora"], "dataset=Cora does not fit task=view_synthesis"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(say, root, arguments, told):
    code, _, err = say("evaluate-checkpoint", *arguments, f"data.root={root}", f"data.cache={root / 'cache'}")
    assert code == 2
    assert err.startswith("Error: ")
    assert told in err
    assert "Traceback" not in err


def test_finished_views_are_kept_when_rendering_is_interrupted(say, root, monkeypatch):
    """Ctrl-C in the second view."""
    file = root / "lego.json"
    measure_view = evaluating.measure_view

    def interrupted(model, scene, view, *rest, **named):
        if view.number == 1:
            raise Preempted(signal.SIGINT)
        return measure_view(model, scene, view, *rest, **named)

    monkeypatch.setattr(evaluating, "measure_view", interrupted)
    code, _, err = say("evaluate-checkpoint", "lego", "--json", str(file), f"data.root={root}")
    assert code == 130
    assert "Interrupted after 1 of 3 views" in err
    assert [view["number"] for view in json.loads(file.read_text())["views"]] == [0]


def test_the_authors_model_of_lego_renders_what_the_photographs_show(say, real_data, tmp_path):
    """Over a coarse grid of one view; a wrong convention of cameras or encoding gives about 10 dB."""
    file = tmp_path / "lego.json"
    where = "--stride", "32", "--views", "56", "--json", str(file), f"data.root={real_data}"
    assert say("evaluate-checkpoint", "lego", *where)[0] == 0
    assert json.loads(file.read_text())["mean"]["psnr"] > 21


def test_figure_1_of_stand_ins_is_labelled_in_name_and_record(say, tmp_path):
    where = "scale=smoke", "trainer.accelerator=cpu", f"results={tmp_path}/out", f"store.root={tmp_path}/runs"
    assert say("figure", "1", "scenes=lego", *where)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "figure1-stand-in.json",
        "figure1-stand-in.md",
        "figure1-stand-in.png",
    ]
    numbers = json.loads((tmp_path / "out" / "figure1-stand-in.json").read_text())
    assert [(each["rule"], each["data"]) for each in numbers] == [
        (rule, "stand-in") for rule in ("bp", "dfa", "shallow")
    ]
    assert {"psnr", "warp_psnr", "warp_share", "view", "neighbour"} <= numbers[0].keys()


def test_a_fog_before_a_surface_is_as_consistent_as_the_surface():
    """Depths and opacities of a ray that is stopped for three quarters are three quarters of the solid ones."""
    scene = stand_in_scene()
    views = scene.views("test")[:2]
    traced = [
        trace(rays.origins, rays.directions) for rays in (view_rays(scene, view.camera, view.pose) for view in views)
    ]
    hits = [each.depths.isfinite().view(32, 32) for each in traced]
    depths = [torch.where(hit, each.depths.view(32, 32), 0.0) for hit, each in zip(hits, traced, strict=True)]
    images = [view.load() for view in views]

    def agreement(stopped: float) -> tuple[float, float]:
        seen = zip(images, depths, hits, strict=True)
        first, second = (Render(image, image, stopped * depth, stopped * hit) for image, depth, hit in seen)
        return consistency(scene, (views[0], views[1]), (first, second))

    solid, foggy = agreement(1.0), agreement(0.75)
    assert solid[1] > 0.1
    assert foggy == pytest.approx(solid)


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_a_run_is_rendered_as_an_animation(say, smoke, tmp_path, ending):
    run = execute(smoke("task=view_synthesis", "model=nerf", "dataset=lego", "trainer.max_epochs=1")).folder
    out = tmp_path / f"orbit.{ending}"
    code, told, _ = say("render", str(run), "--frames", "3", "--width", "12", "--out", str(out))
    assert (code, told.strip()) == (0, str(out))
    with Image.open(out) as image:
        assert image.size == (12, 12)
        assert image.format == ending.upper()


def test_an_interrupted_animation_keeps_its_finished_frames(say, smoke, tmp_path, monkeypatch):
    """Ctrl-C in the third frame."""
    run = execute(smoke("task=view_synthesis", "model=nerf", "dataset=lego", "trainer.max_epochs=1")).folder
    render, begun = rendering.render_view, []

    def interrupted(*arguments, **named):
        begun.append(named["progress"])
        if len(begun) == 3:
            raise Preempted(signal.SIGINT)
        seen = render(*arguments, **named)
        return seen._replace(fine=seen.fine * len(begun) / 4)  # frames alike would be stored as one

    monkeypatch.setattr(rendering, "render_view", interrupted)
    out = tmp_path / "orbit.webp"
    code, told, err = say("render", str(run), "--frames", "5", "--width", "12", "--out", str(out))
    assert (code, told.strip()) == (130, str(out))
    assert "Interrupted after 2 of 5 frames; these are kept." in err
    with Image.open(out) as image:
        assert image.n_frames == 2


def test_what_is_no_run_of_view_synthesis_is_not_rendered(say, smoke, tmp_path):
    code, _, err = say("render", str(tmp_path))
    assert (code, "is not the record of a finished run" in err) == (2, True)
    other = execute(smoke("task=nodes", "model=gcn", "trainer.max_epochs=1")).folder
    code, _, err = say("render", str(other))
    assert (code, "is a run of task=nodes" in err) == (2, True)
    code, _, err = say("render", str(other), "--out", "film.mp4")
    assert (code, "must end in .gif or .webp" in err) == (2, True)


def test_cameras_of_an_orbit_look_at_the_scene():
    for ndc, target in ((False, torch.zeros(3)), (True, torch.tensor([0.0, 0.0, -4.0]))):
        scene = dataclasses.replace(stand_in_scene(), ndc=ndc)
        for pose in orbit(scene, 5):
            check_pose(pose, "orbit")
            row, column, _ = to_pixels(scene.camera, pose, target)
            assert (row.item(), column.item()) == pytest.approx((16, 16), abs=1e-3)


def test_evaluated_models_become_one_table_of_the_results(say, root):
    for name, scene, *mode in (("lego", "lego"), ("fern", "fern"), ("a-test", "fern", "--train-mode")):
        where = "--json", str(root / "results" / "released" / f"{name}.json"), f"data.root={root}"
        assert say("evaluate-checkpoint", scene, "--stride", "3", *mode, *where)[0] == 0
    assert say("results", "table1", f"results={root / 'results'}", f"store.root={root / 'runs'}")[0] == 0
    table = pd.read_csv(root / "results" / "released.csv")
    assert set(table.columns) == set(CSV_COLUMNS)
    fern = json.loads((root / "results" / "released" / "fern.json").read_text())
    shown = table[(table.row == "fern") & (table.metric == "psnr")].iloc[0]
    assert (shown.column, shown.rule, shown.protocol) == ("4x128", "dfa", "reduced")
    assert shown["mean"] == pytest.approx(fern["mean"]["psnr"], abs=1e-6)
    lines = (root / "results" / "released.md").read_text().splitlines()
    shown = [line.split(" | ") for line in lines if line.startswith(("| NeRF", "| LLFF"))]
    assert [(line[1], line[7]) for line in shown] == [
        ("lego", "evaluation"),
        ("fern", "evaluation"),
        ("fern", "train"),
    ]
    assert {"psnr", "psnr_train_mode"} <= {*table[table.row == "fern"].metric}
    stand_in = fern | {"data": fern["data"] | {"kind": "stand-in"}}
    (root / "results" / "released" / "other.json").write_text(json.dumps(stand_in))
    with pytest.raises(ConfigError, match="other.json was measured on a stand-in"):
        evaluated(root / "results")
    (root / "results" / "released" / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="other.json was not written by"):
        evaluated(root / "results")
