"""NeRF's parts: the networks by themselves, where rays are sampled, and what they see on either background."""

import pytest
import torch
from torch import cat

from dfa_bench.tasks.view_synthesis.sampling import hierarchical_depths, stratified_depths
from tests.golden.cases import CASES, Reference, build_model, pixels, take_step
from tests.golden.compare import assert_same

pytestmark = pytest.mark.usefixtures("double")
CASE = CASES["nerf"]


@pytest.fixture
def reference(golden) -> Reference:
    return Reference(golden / f"{CASE.file}.npz")


def outputs(reference: Reference, *names: str) -> dict[str, torch.Tensor]:
    return {name: reference[f"output/{name}"] for name in names}


def test_the_networks_alone(reference):
    model = build_model(CASE, reference)
    points, seen_from = reference["input/points"], reference["input/point_view_directions"]
    found = {
        f"points_raw_{name}": model.get_submodule(name)(points.unsqueeze(1), seen_from).squeeze(1)
        for name in ("coarse", "fine")
    }
    encode = model.coarse
    found["points_encoding"] = cat([encode.encode_position(points), encode.encode_direction(seen_from)], dim=-1)
    assert_same(found, outputs(reference, *found))


def test_raw_outputs_along_rays(reference):
    model, found = build_model(CASE, reference), {}
    for name in ("coarse", "fine"):
        model.get_submodule(name).register_forward_hook(
            lambda module, args, raw, name=name: found.update({f"{name}_raw": raw})
        )
    model(CASE.batch(reference).rays)
    assert_same(found, outputs(reference, "coarse_raw", "fine_raw"))


def test_depths_of_samples(reference):
    rays, near, far = len(reference["input/origins"]), reference["input/near"], reference["input/far"]
    coarse = stratified_depths(rays, 6, near.item(), far.item(), uniform=None, device=torch.device("cpu"))
    fine = hierarchical_depths(coarse, reference["output/coarse_weights"], 8, None)
    found = {"coarse_depth_samples": coarse, "fine_depth_samples": fine}
    assert_same(found, outputs(reference, *found))


def test_a_black_background(reference):
    step = take_step(CASE, reference, "bp", build_model(CASE, reference, white_background=False))
    colours = {name: step.outputs[name] for name in ("coarse_colour", "fine_colour")}
    assert_same(colours, reference.group("output_black"))
    assert_same({"loss": step.loss}, {"loss": reference["loss_black"]})


def test_the_released_bp_class_lacks_the_first_relu(reference):
    """No released configuration names it; without that ReLU our network is the same."""
    model = build_model(CASE, reference)
    for network in (model.coarse, model.fine):
        network.trunk[0].activation = torch.nn.Identity()
    seen = pixels(model(CASE.batch(reference).rays))
    expected = reference.group("bpclass_output")
    colours = {name: value for name, value in expected.items() if name.endswith("colour")}
    assert_same({name: seen[name] for name in colours}, colours)
