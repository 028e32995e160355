"""What a run costs."""

import platform
import subprocess
import sys

import pytest


def test_the_memory_of_a_run_is_not_that_of_one_before_it():
    code = """
import torch
from dfa_bench.training.allocator import keep_freed_memory
from dfa_bench.training.cost import peak_memory_mib, reset_peak_memory
cpu = torch.device("cpu")
keep_freed_memory()
tensors = [torch.ones(2**18) for _ in range(400)]
before = peak_memory_mib(cpu)
del tensors
reset_peak_memory(cpu)
print(before - peak_memory_mib(cpu))
"""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc")
    freed = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert freed > 300
