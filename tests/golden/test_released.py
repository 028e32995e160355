"""Our models with the released code's parameters: outputs, loss, errors, gradients, in float64, without dropout."""

import pytest
from torch import nn

from dfa_bench.tasks.language.models import sinusoids
from tests.golden.cases import CASES, Reference, build_model, factor_of, take_step
from tests.golden.compare import assert_same, differences

pytestmark = pytest.mark.usefixtures("double")


def every(*rules: str) -> list[object]:
    """(model, rule) of all references."""
    return [
        pytest.param(model, rule, id=f"{model}-{rule}")
        for model, case in CASES.items()
        for rule in case.rules
        if rule in rules
    ]


@pytest.mark.parametrize("model, rule", every("bp", "dfa", "shallow"))
def test_a_training_step_gives_what_the_released_code_gives(golden, model, rule):
    case = CASES[model]
    reference = Reference(golden / f"{case.file}.npz")
    network = build_model(case, reference)
    step = take_step(case, reference, rule, network)
    assert_same({"loss": step.loss}, {"loss": reference["loss"]})
    assert_same(step.outputs, {name: reference[f"output/{name}"] for name in step.outputs})
    assert_same(step.gradients, reference.group(f"grad_{rule}"))
    if rule == "dfa":
        errors = reference.group("error").items()
        expected = {path: case.error(error).flatten() for path, error in errors}
        assert_same({path: error.flatten() for path, error in step.errors.items()}, expected)
    assert_same_running_statistics(network, case.names, reference)


def assert_same_running_statistics(network: nn.Module, names: dict[str, str], reference: Reference) -> None:
    """Those of the click models' batch norms after the step."""
    norms = {
        theirs.removesuffix(".weight"): ours.removesuffix(".weight")
        for theirs, ours in names.items()
        if f"buffer_after/{theirs.removesuffix('.weight')}.running_mean" in reference.entries
    }
    for theirs, ours in norms.items():
        norm = network.get_submodule(ours)
        found = {"mean": norm.running_mean, "var": norm.running_var}
        assert_same(found, {name: reference[f"buffer_after/{theirs}.running_{name}"] for name in found})


@pytest.mark.parametrize("model, rule", every("bp", "dfa", "shallow"))
def test_the_same_parameters_have_a_gradient(golden, model, rule):
    case = CASES[model]
    reference = Reference(golden / f"{case.file}.npz")
    step = take_step(case, reference, rule, build_model(case, reference))
    assert set(step.gradients) == set(reference.group(f"grad_{rule}"))


@pytest.mark.parametrize("model, rule", every("dfa"))
def test_feedback_goes_to_points_of_the_same_widths_with_the_same_factor(golden, model, rule):
    case = CASES[model]
    reference = Reference(golden / f"{case.file}.npz")
    network = build_model(case, reference)
    factors = reference.group("feedback_factor")
    assert factor_of(case, reference, network) == pytest.approx([factors[path].item() for path in sorted(factors)])
    attachment = take_step(case, reference, rule, network).attachment
    widths = reference.group("feedback_widths")
    found = [sorted(route.widths.values()) for route in attachment.paths]
    assert found == [sorted(widths[path].tolist()) for path in sorted(widths)]


@pytest.mark.parametrize("model, rule", every("dfa"))
def test_a_matrix_off_by_a_ten_thousandth_shows(golden, model, rule):
    case = CASES[model]
    reference = Reference(golden / f"{case.file}.npz")
    step = take_step(case, reference, rule, build_model(case, reference), matrix_factor=1.0001)
    worst = max(differences(step.gradients, reference.group("grad_dfa")).values())
    assert worst == pytest.approx(1e-4, rel=0.5)


def test_spline_takes_the_same_pseudo_coordinate(golden):
    reference = Reference(golden / "nodes-spline.npz")
    graph = CASES["spline"].batch(reference).graph
    assert_same({"pseudo": graph.target_indegree()}, {"pseudo": reference["input/pseudo"]})


@pytest.mark.parametrize("feedback", ["macro", "micro"])
def test_the_position_table_is_the_released_one_in_float64(golden, feedback):
    """The other tests put the released table into our model: it was rounded to float32."""
    case = CASES[feedback]
    reference = Reference(golden / f"{case.file}.npz")
    released = reference["buffer/pos_encoder.pe"].squeeze(1)  # (positions, width)
    assert_same({"table": sinusoids(*released.shape)}, {"table": released}, tolerance=1e-6)
