"""Layers of the click models against independent formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dfa_bench.tasks.click_through.layers import (
    Cross,
    FieldAttention,
    LinearTerm,
    Log1pNeurons,
    LogNeurons,
    pairwise,
)

sizes = st.integers(1, 5)


@given(rows=sizes, fields=sizes, width=sizes, seed=st.integers(0, 100))
def test_the_pairwise_term_is_the_sum_over_pairs(rows, fields, width, seed):
    embedded = torch.randn(rows, fields, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pairs = [(i, j) for i in range(fields) for j in range(i + 1, fields)]
    expected = sum((embedded[:, i] * embedded[:, j]).sum(1) for i, j in pairs) + torch.zeros(rows)
    assert_close(pairwise(embedded), expected.double(), atol=1e-10, rtol=0)


def test_the_linear_term_sums_one_weight_per_id():
    term = LinearTerm(5)
    with torch.no_grad():
        term.weight.weight.copy_(torch.tensor([[1.0], [2], [4], [8], [16]]))
        term.bias.fill_(0.5)
    assert_close(term(torch.tensor([[0, 3], [1, 4]])), torch.tensor([9.5, 18.5]))


@pytest.mark.parametrize("std", [0.0, 1.0])
def test_the_linear_term_starts_with_its_spread_and_leaves_the_draws_after_it_alone(std):
    torch.manual_seed(0)
    term, after = LinearTerm(4000, std), torch.rand(3)
    assert term.weight.weight.std().item() == pytest.approx(std, rel=0.05)
    torch.manual_seed(0)
    LinearTerm(4000)
    assert torch.equal(torch.rand(3), after)


@given(rows=sizes, width=sizes)
def test_a_cross_layer_is_its_equation(rows, width):
    layer = Cross(width).double()
    torch.nn.init.normal_(layer.bias)
    first, x = torch.randn(2, rows, width, dtype=torch.float64)
    outer = first.unsqueeze(2) @ x.unsqueeze(1)  # x0 xᵀ, (rows, width, width)
    assert_close(layer(first, x), outer @ layer.weight.weight[0] + layer.bias + x)


@given(rows=sizes, fields=sizes, neurons=sizes, width=sizes)
def test_log_neurons_multiply_powers(rows, fields, neurons, width):
    layer = LogNeurons(fields, neurons).double()
    torch.nn.init.normal_(layer.weight.weight)
    embedded = torch.rand(rows, fields, width, dtype=torch.float64) + 0.1
    powers = embedded.unsqueeze(1) ** layer.weight.weight[None, :, :, None]  # (rows, neurons, fields, width)
    assert_close(layer(embedded), powers.prod(dim=2))


@given(rows=sizes, fields=sizes, neurons=sizes, width=sizes)
def test_log1p_neurons_are_torchfms_formula(rows, fields, neurons, width):
    layer = Log1pNeurons(fields, neurons).double()
    embedded = torch.randn(rows, fields, width, dtype=torch.float64)
    powers = (1 + embedded.abs() + 1e-7).unsqueeze(1) ** layer.weight.weight[None, :, :, None]
    assert_close(layer(embedded), (powers.prod(dim=2) - 1).clamp(min=0))


def test_field_attention_drops_weights_in_training_only():
    attention, x = FieldAttention(8, 2, dropout=0.5), torch.randn(3, 5, 8)
    assert not torch.equal(attention(x), attention(x))
    assert torch.equal(attention.eval()(x), attention(x))


def test_field_attention_starts_as_pytorchs_if_asked():
    started = FieldAttention(64, 2, start="xavier")
    bound = math.sqrt(6 / (64 + 3 * 64))  # Xavier over all three maps
    assert started.qkv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert not started.qkv.bias.any()
    assert not started.out.bias.any()


def test_field_attention_is_pytorchs():
    ours, theirs = FieldAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(3, 5, 8)
    assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)
