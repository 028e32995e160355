"""Rays, sampling and volume rendering against closed forms."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from torch import nn
from torch.testing import assert_close

from dfa_bench.tasks.view_synthesis.cameras import Camera, centred
from dfa_bench.tasks.view_synthesis.consistency import surface_points, to_pixels, warp_psnr
from dfa_bench.tasks.view_synthesis.rays import (
    Rays,
    camera_tensor,
    normalised_device_rays,
    pixel_directions,
    rays_through,
    view_rays,
)
from dfa_bench.tasks.view_synthesis.rendering import Sampling, composite, render_rays
from dfa_bench.tasks.view_synthesis.sampling import hierarchical_depths, inverse_transform_depths, stratified_depths
from dfa_bench.tasks.view_synthesis.spheres import FLOOR_DEPTH, FLOOR_HALF, FLOOR_Z, SPHERES
from dfa_bench.tasks.view_synthesis.standin import look_at, stand_in_scene, surface_colour, trace
from dfa_bench.tasks.view_synthesis.views import measure_view, psnr, render_view

CPU = torch.device("cpu")


def test_rays_go_through_the_pixels_that_they_are_named_after():
    """Column W/2, row H/2 looks straight ahead; further right is +x, further down is -y."""
    rows, columns = torch.tensor([3.0, 3, 0]), torch.tensor([4.0, 6, 4])
    expected = torch.tensor([[0.0, 0, -1], [0.5, 0, -1], [0, 0.75, -1]])
    assert_close(pixel_directions(rows, columns, camera_tensor(centred(4.0, height=6, width=8))), expected)


def test_the_ray_through_the_middle_meets_what_the_camera_looks_at():
    scene = stand_in_scene()
    pose = look_at(torch.tensor([2.0, 1.0, 3.0]))
    middle = torch.tensor([scene.height // 2])
    rays = rays_through(scene, camera_tensor(scene.camera), pose, middle, middle)
    assert_close(rays.origins + 14**0.5 * rays.directions, torch.zeros(1, 3), atol=1e-6, rtol=0)
    assert_close(rays.view_directions.norm(dim=-1), torch.ones(1))


def test_a_grid_of_rays_is_a_part_of_all_rays():
    scene = stand_in_scene()
    pose = scene.views("test")[0].pose
    rays = view_rays(scene, scene.camera, pose).directions.view(scene.height, scene.width, 3)
    assert_close(view_rays(scene, scene.camera, pose, stride=5).directions.view(7, 7, 3), rays[::5, ::5])


@given(floats(-0.5, 0.5), floats(-0.5, 0.5), floats(0, 0.999))
@settings(max_examples=50)
def test_normalised_device_rays_follow_the_projection_of_their_points(dx, dy, t):
    """Appendix C: a point of the NDC ray at t' is the projection of the world ray's point at t."""
    height, width, camera, near = 6, 8, Camera(7.0, 5.0, 3.0, 4.5), 1.0
    origin, direction = torch.tensor([[0.2, -0.1, 0.3]]).double(), torch.tensor([[dx, dy, -1.0]]).double()
    moved, turned = normalised_device_rays(origin, direction, height, width, camera, near)
    start = origin - (near + origin[:, 2:]) / direction[:, 2:] * direction  # on the near plane
    depth = start[:, 2] / direction[:, 2] * t / (1 - t)  # eq. 20 solved for t: t' = 1 - o_z / (o_z + t d_z)
    x, y, z = (start + depth.unsqueeze(-1) * direction).unbind(-1)
    projected = torch.stack([-2 * camera.fx / width * x / z, -2 * camera.fy / height * y / z, 1 + 2 * near / z], dim=-1)
    assert_close(moved + t * turned, projected)


def test_normalised_device_rays_start_at_minus_one_and_end_at_one():
    origins, directions = torch.randn(20, 3).double() * 0.1, torch.randn(20, 3).double() * 0.2
    directions[:, 2] = -1
    moved, turned = normalised_device_rays(origins, directions, 6, 8, centred(7.0, 6, 8))
    assert_close(moved[:, 2], -torch.ones(20).double())
    assert_close((moved + turned)[:, 2], torch.ones(20).double())


def test_depths_without_jitter_are_evenly_spaced_with_both_ends():
    assert_close(stratified_depths(2, 5, 2.0, 6.0, None, CPU), torch.tensor([[2.0, 3, 4, 5, 6]] * 2))


@given(integers(2, 20))
@settings(max_examples=20)
def test_jittered_depths_stay_in_their_strata(samples):
    even = stratified_depths(1, samples, 2.0, 6.0, None, CPU)
    jittered = stratified_depths(50, samples, 2.0, 6.0, partial(torch.rand, 50), CPU)
    middle = (even[:, 1:] + even[:, :-1]) / 2
    assert (jittered[:, :-1] <= middle + 1e-6).all()
    assert (jittered[:, 1:] >= middle - 1e-6).all()


def test_inverse_transform_samples_have_the_histogram_of_the_weights():
    torch.manual_seed(0)
    weights = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    edges = torch.tensor([[0.0, 1.0, 1.5, 2.0, 4.0]])
    samples = inverse_transform_depths(edges, weights, 200_000, partial(torch.rand, 1))
    found = torch.histogram(samples[0], edges[0]).hist / 200_000
    assert_close(found, weights[0], atol=5e-3, rtol=0)
    in_last = samples[(samples > 2) & (samples < 4)]
    assert_close(in_last.mean(), torch.tensor(3.0), atol=0.02, rtol=0)  # uniform within a bin


def test_even_quantiles_of_equal_weights_are_evenly_spaced():
    edges = torch.linspace(1, 3, 6).unsqueeze(0)
    samples = inverse_transform_depths(edges, torch.full((1, 5), 0.7), 9, None)
    assert_close(samples, torch.linspace(1, 3, 9).unsqueeze(0))


def test_no_weight_at_all_is_sampled_evenly():
    edges = torch.linspace(1, 3, 6).unsqueeze(0)
    assert_close(inverse_transform_depths(edges, torch.zeros(1, 5), 3, None), torch.tensor([[1.0, 2, 3]]))


def test_hierarchical_depths_are_sorted_keep_the_coarse_ones_and_let_no_gradient_through():
    depths = stratified_depths(4, 16, 0.0, 1.0, None, CPU)
    weights = torch.rand(4, 16, requires_grad=True)
    both = hierarchical_depths(depths, weights, 32, partial(torch.rand, 4))
    assert both.shape == (4, 48)
    assert not both.requires_grad
    assert (both.diff(dim=-1) >= 0).all()
    assert all(torch.isin(depths[row], both[row]).all() for row in range(4))


@given(floats(0.01, 3.0), floats(0.5, 3.0))
@settings(max_examples=50)
def test_a_slab_of_constant_density_has_alpha_one_minus_exp(density, length):
    """1 - exp(-density · thickness), with the thickness in world units, whatever the direction's length."""
    samples = 200
    depths = torch.linspace(0, 4, samples).unsqueeze(0).double()
    inside = (depths[:, :-1] >= 1) & (depths[:, :-1] < 3)
    thickness = (depths.diff()[inside]).sum() * length
    raw = torch.zeros(1, samples, 4).double()
    raw[:, :-1, 3] = density * inside
    seen = composite(raw, depths, torch.tensor([[0.0, 0.0, -length]]).double(), white_background=False)
    assert_close(seen.opacities, 1 - torch.exp(-density * thickness).expand(1), atol=1e-6, rtol=0)
    assert_close(seen.colours, 0.5 * seen.opacities.unsqueeze(-1).expand(1, 3))


@given(floats(-1, 1), floats(-1, 1), floats(0.5, 2), floats(0.1, 3))
@settings(max_examples=30)
def test_a_box_seen_from_outside_is_as_dark_as_its_chords_are_long(x, y, length, density):
    """Rays (0, 0, 4) -> (x, y, -1) of any length: 1 - exp(-density · chord), and a face where the first one is."""
    half = torch.tensor([0.9, 0.6, 0.4])
    origin, target = torch.tensor([0.0, 0.0, 4.0]), torch.tensor([x, y, -1.0])
    direction = (target - origin) / 5 * length
    at = (torch.stack([-half, half]) - origin) / direction  # where the ray meets the planes of the faces
    entry, leave = at.amin(0).amax(), at.amax(0).amin()
    chord = (leave - entry).clamp(min=0) * direction.norm()

    def box(of: float):
        def field(points, view_directions):
            inside = (points.abs() < half).all(-1, keepdim=True)
            return torch.cat([torch.zeros_like(points), of * inside], dim=-1)

        return field

    rays = Rays(origin.view(1, 3), direction.view(1, 3), (direction / direction.norm()).view(1, 3))
    sampling = Sampling(2 / length, 6 / length, 800, 800, False, 0.0)
    misty, solid = (render_rays(box(of), box(of), rays, sampling, training=False).fine for of in (density, 1e5))
    step = 4 / length / 799
    error = 2 * density * step * direction.norm().item()  # the density changes between two samples at either face
    assert_close(misty.opacities, 1 - torch.exp(-density * chord).view(1), atol=error + 1e-5, rtol=0)
    if chord > 3 * step * direction.norm():
        assert_close(solid.depths, entry.view(1), atol=1.5 * step, rtol=0)


def test_an_opaque_wall_hides_what_is_behind_it_and_shows_its_depth():
    depths = torch.linspace(2, 6, 41).unsqueeze(0)
    raw = torch.zeros(1, 41, 4)
    raw[:, 10:, 3] = 1e4
    raw[:, 10, :3], raw[:, 11:, :3] = 20.0, -20.0  # white in front, black behind
    seen = composite(raw, depths, torch.tensor([[0.0, 0.0, -1.0]]), white_background=False)
    assert_close(seen.colours, torch.ones(1, 3))
    assert_close(seen.depths, depths[:, 10])


def test_empty_space_shows_the_background():
    raw, depths = torch.zeros(1, 8, 4), torch.linspace(2, 6, 8).unsqueeze(0)
    direction = torch.tensor([[0.0, 0.0, -1.0]])
    assert_close(composite(raw, depths, direction, white_background=True).colours, torch.ones(1, 3))
    assert_close(composite(raw, depths, direction, white_background=False).colours, torch.zeros(1, 3))


def test_weights_never_sum_to_more_than_one_and_survive_large_densities():
    raw = torch.randn(30, 20, 4) * 1e4
    raw.requires_grad_(True)
    seen = composite(raw, torch.linspace(0, 1, 20).expand(30, 20), torch.randn(30, 3), white_background=True)
    assert (seen.opacities <= 1 + 1e-5).all()
    seen.colours.sum().backward()
    assert torch.isfinite(raw.grad).all()


def density_and_colour(points: torch.Tensor, density: float) -> torch.Tensor:
    """The scene as a radiance field, before its non-linearities: constant density inside the bodies.

    Args:
        points: (..., 3).

    Returns:
        (..., 4): logits of the colours, density.
    """
    inside = [(points - points.new_tensor(sphere[:3])).norm(dim=-1) < sphere[3] for sphere in SPHERES]
    x, y, z = points.unbind(-1)
    within = (x.abs() < FLOOR_HALF) & (y.abs() < FLOOR_HALF)
    inside.append(within & (z < FLOOR_Z) & (z > FLOOR_Z - FLOOR_DEPTH))
    colours = torch.full_like(points, 0.5)
    for body, where in enumerate(inside):
        colours = torch.where(where.unsqueeze(-1), surface_colour(points, body), colours)
    raw = torch.logit(colours, eps=1e-6)
    return torch.cat([raw, density * torch.stack(inside).any(0).to(points).unsqueeze(-1)], dim=-1)


class TrueField(nn.Module):
    """The stand-in's own density, as both networks of a renderer."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.device = nn.Parameter(torch.zeros(()))
        self.sampling = Sampling(2.0, 6.0, samples, samples, True, 0.0)

    def forward(self, rays):
        def field(points, view_directions):
            return density_and_colour(points, density=400.0)

        return render_rays(field, field, rays, self.sampling, training=False)


def test_views_that_are_smaller_than_ssims_window_have_none():
    for size, has_ssim in ((5, False), (6, True)):
        scene = stand_in_scene(size)
        view = scene.views("test")[0]
        measured = measure_view(TrueField(8), scene, view, view.load(), stride=1)
        assert (measured.ssim is not None) == has_ssim
        assert measured.rays == size * size


def test_the_true_density_renders_what_the_ray_tracer_sees():
    scene = stand_in_scene()
    view = scene.views("test")[0]
    seen = render_view(TrueField(256), scene, view.camera, view.pose)
    rays = view_rays(scene, scene.camera, view.pose)
    traced = trace(rays.origins, rays.directions)
    assert psnr(seen.fine, view.load()) > 25  # edges of a 32-pixel image fall between samples
    hit = traced.depths.isfinite()
    wrong = (seen.opacity.flatten() - hit.float()).abs() > 1e-3
    assert wrong.float().mean() < 0.01  # rays that only graze a body
    off = (seen.depth.flatten()[hit] - traced.depths[hit]).abs()
    assert off.median() < 0.01  # a step of the coarse samples is 4/255


def test_the_traced_floor_seen_from_above_is_where_its_faces_are():
    """The floor plate from straight above: depth 4.5, and a square of 2.8 / 4.5 · focal pixels."""
    scene = stand_in_scene(64)
    origins = torch.tensor([[1.2, -1.2, 4.0], [1.5, 0.0, 4.0]])
    seen = trace(origins, torch.tensor([[0.0, 0.0, -1.0]] * 2))
    assert seen.depths[0] == pytest.approx(4.5)
    assert math.isinf(seen.depths[1])
    rays = view_rays(scene, scene.camera, torch.cat([torch.eye(3), torch.tensor([[0.0], [0.0], [4.0]])], dim=1))
    covered = trace(rays.origins, rays.directions).depths.isfinite().sum().item()
    assert covered == pytest.approx((2.8 / 4.5 * scene.camera.fx) ** 2, rel=0.05)


@pytest.mark.parametrize("chunk", [7, 100, 5000])
def test_the_size_of_a_chunk_changes_nothing(chunk):
    scene = stand_in_scene()
    pose = scene.views("val")[0].pose
    whole, parts = (
        render_view(TrueField(16), scene, scene.camera, pose, stride=4, chunk=size) for size in (10_000, chunk)
    )
    assert_close(parts, whole)


def test_points_project_to_the_pixels_whose_rays_they_lie_on():
    scene = stand_in_scene()
    pose = scene.views("test")[1].pose
    rows, columns = torch.tensor([3.0, 20.0]), torch.tensor([7.0, 31.0])
    rays = rays_through(scene, camera_tensor(scene.camera), pose, rows, columns)
    found = to_pixels(scene.camera, pose, rays.origins + torch.tensor([[2.5], [4.0]]) * rays.directions)
    assert_close(found, (rows, columns, torch.tensor([2.5, 4.0])), atol=1e-4, rtol=0)


@pytest.mark.parametrize("ndc", [False, True])
def test_surface_points_are_where_the_depth_of_the_rendered_rays_says(ndc):
    scene = dataclasses.replace(stand_in_scene(8), ndc=ndc)
    pose = torch.cat([torch.eye(3), torch.tensor([[0.1], [0.2], [0.3]])], dim=1)
    depth = torch.full((8, 8), 0.5 if ndc else 2.0)
    points = surface_points(scene, scene.camera, pose, depth)
    expected = -2.0 if ndc else 0.3 - 2.0  # NDC 0.5 is at z = 1 / (0.5 - 1)
    assert_close(points[..., 2], torch.full((8, 8), expected))
    rows, columns, _ = to_pixels(scene.camera, pose, points)
    assert_close(rows, torch.arange(8.0).unsqueeze(1).expand(8, 8), atol=1e-4, rtol=0)
    assert_close(columns, torch.arange(8.0).expand(8, 8), atol=1e-4, rtol=0)


def test_a_true_depth_warps_a_view_into_its_neighbour_and_a_wrong_one_does_not():
    """Mutual check of depth, projection and occlusion on the floor and spheres of the analytic scene."""
    scene = stand_in_scene(96)
    positions = torch.tensor([[2.0, 1.0, 3.2]]), torch.tensor([[2.1, 0.8, 3.2]])
    poses = tuple(look_at(position[0]) for position in positions)
    rays = [view_rays(scene, scene.camera, pose) for pose in poses]
    traced = [trace(ray.origins, ray.directions) for ray in rays]
    images = tuple(each.colours.view(96, 96, 3) for each in traced)
    opacities = tuple(each.depths.isfinite().float().view(96, 96) for each in traced)
    depths = tuple(torch.where(each.depths.isfinite(), each.depths, 6.0).view(96, 96) for each in traced)
    cameras = (scene.camera, scene.camera)
    agree, share = warp_psnr(scene, cameras, poses, images, depths, opacities)
    wrong, _ = warp_psnr(scene, cameras, poses, images, tuple(depth + 0.5 for depth in depths), opacities)
    assert agree > 20  # the checkerboard's edges are sharp
    assert share > 0.3
    assert wrong < agree - 2
