"""The sentence on what may move digits."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from dfa_bench.settings.schema import TrainerSettings
from dfa_bench.training.numerics import allow_tf32, numerics

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.set_float32_matmul_precision(products)


def chosen(**settings: object) -> TrainerSettings:
    return TrainerSettings.model_validate({"max_epochs": 1, **settings})


@pytest.mark.parametrize(
    "settings, told",
    [
        ({}, "fp32, cpu"),
        ({"precision": "bf16-mixed"}, "bf16-mixed, cpu"),
        ({"compile": True}, "fp32, compiled, cpu"),
        ({"precision": "bf16-mixed", "compile": True}, "bf16-mixed, compiled, cpu"),
        ({"threads": 1, "devices": 2, "checkpoint_seconds": 0}, "fp32, 2 processes, cpu"),
    ],
)
def test_precision_compilation_and_device_are_told(settings, told):
    assert numerics(chosen(**settings), CPU) == told


@pytest.mark.parametrize(
    "products, convolutions, told",
    [
        ("highest", False, "fp32, cuda"),
        ("highest", True, "fp32, TF32 convolutions, cuda"),
        ("high", False, "fp32, TF32 matmul, cuda"),
        ("high", True, "fp32, TF32, cuda"),
    ],
)
def test_tf32_is_told_where_there_is_such_a_thing(products, convolutions, told):
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
    assert numerics(chosen(), CUDA) == told
    assert numerics(chosen(), CPU) == "fp32, cpu"


@pytest.mark.parametrize(
    "allowed, told", [(True, "fp32, TF32 matmul, captured, cuda"), (False, "fp32, captured, cuda")]
)
def test_what_a_run_chooses_is_told(allowed, told):
    torch.backends.cudnn.allow_tf32 = False
    allow_tf32(allowed)
    assert numerics(chosen(tf32=allowed), CUDA, captured=True) == told
    assert numerics(chosen(capture=True), CUDA) == told.replace("captured, ", ""), "a run may have too few steps"


NEWER = """
import torch
from dfa_bench.settings.schema import TrainerSettings
from dfa_bench.training.numerics import numerics
torch.backends.cuda.matmul.fp32_precision = "tf32"
torch.backends.cudnn.conv.fp32_precision = "ieee"
print(numerics(TrainerSettings(max_epochs=1), torch.device("cuda")))
"""


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch before 2.9")
def test_tf32_by_the_newer_settings_is_told_too():
    """In a process of its own, since PyTorch refuses to mix them with the older ones."""
    told = subprocess.run([sys.executable, "-c", NEWER], capture_output=True, text=True, check=True).stdout
    assert told == "fp32, TF32 matmul, cuda\n"
