"""Over two gloo processes, and under Lightning Fabric, gradients are those of one process with the whole batch."""

import copy
import gc
import os
import socket
import sys
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning_fabric import Fabric
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from dfa_bench.feedback import (
    AlreadyAttached,
    DirectFeedback,
    FeedbackAlignment,
    FeedbackError,
    FeedbackPath,
    Shallow,
    attachment_of,
)
from tests.feedback.models import assert_same, gradients, mlp_and_batch, mlp_reference, squared_error

PATH = FeedbackPath(["layers.*.activation"], error_at="head")
WORLD = 2


def whole_batch():
    """Model, bare copy, and a batch of which each of two processes takes half; the loss is a mean over processes."""
    model, x, targets = mlp_and_batch(rows=8)
    return model, copy.deepcopy(model), x, targets


def expected(bare, x, targets, matrix):
    """Mean over two processes of the gradients of their halves."""
    found = mlp_reference(bare, x, targets, matrix)
    return {name: gradient / WORLD for name, gradient in found.items()}


def in_two_processes(*work):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_process, (work, port), nprocs=WORLD)


def _process(rank, work, port):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    try:
        for check in work:
            check(rank)
    finally:
        gc.collect()  # sharded modules hold the group in reference cycles
        dist.destroy_process_group()
    # All checks have passed. What is left is PyTorch's own end of a process, which joins its threads in an order of its
    # own and aborts now and then ("terminate called without an active exception").
    sys.stdout.flush()
    os._exit(0)


def _half(rank, x, targets):
    return x.chunk(WORLD)[rank], targets.chunk(WORLD)[rank]


def _ddp_steps(rank):
    model, bare, x, targets = whole_batch()
    attached = DirectFeedback(seed=1).attach(model, PATH, example=x[:2])
    parallel = DistributedDataParallel(model)
    mine = _half(rank, x, targets)
    for _ in range(3):
        parallel.zero_grad()
        squared_error(parallel(mine[0]), mine[1]).backward()
        assert_same(gradients(model), expected(bare, x, targets, attached.matrices[0]))
    parallel.zero_grad()
    with parallel.no_sync():
        squared_error(parallel(mine[0][:2]), mine[1][:2]).backward()
    squared_error(parallel(mine[0][2:]), mine[1][2:]).backward()
    assert_same(gradients(model), expected(bare, x, targets, attached.matrices[0]))


def _ddp_streaming(rank):
    for options in ({}, {"static_graph": True}):
        model, bare, x, targets = whole_batch()
        attached = DirectFeedback(seed=1, streaming=True).attach(model, PATH, example=x[:2])
        parallel = DistributedDataParallel(model, **options)
        mine = _half(rank, x, targets)
        for _ in range(2):
            parallel.zero_grad()
            squared_error(parallel(mine[0]), mine[1]).backward()
            assert_same(gradients(model), expected(bare, x, targets, attached.matrices[0]))


def _ddp_matrix_from_first_batch_and_patterns_with_its_prefix(rank):
    model, bare, x, targets = whole_batch()
    parallel = DistributedDataParallel(model)
    attached = DirectFeedback(seed=1).attach(parallel, FeedbackPath(["module.layers.*.activation"], "module.head"))
    mine = _half(rank, x, targets)
    squared_error(parallel(mine[0]), mine[1]).backward()
    assert_same(gradients(model), expected(bare, x, targets, attached.matrices[0]))
    theirs = [torch.empty_like(attached.matrices[0]) for _ in range(WORLD)]
    dist.all_gather(theirs, attached.matrices[0])
    assert torch.equal(*theirs)


def _ddp_compiled(rank):
    model, bare, x, targets = whole_batch()
    attached = DirectFeedback(seed=1).attach(model, PATH, example=x[:2])
    parallel = torch.compile(DistributedDataParallel(model), backend="aot_eager")
    mine = _half(rank, x, targets)
    for _ in range(2):
        model.zero_grad()
        squared_error(parallel(mine[0]), mine[1]).backward()
        assert_same(gradients(model), expected(bare, x, targets, attached.matrices[0]))


def _ddp_shallow(rank):
    model, bare, x, targets = whole_batch()
    Shallow().attach(model, PATH)
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    mine = _half(rank, x, targets)
    for _ in range(2):
        parallel.zero_grad()
        squared_error(parallel(mine[0]), mine[1]).backward()
    squared_error(bare(x), targets).backward()
    assert_same(
        {name: gradient for name, gradient in gradients(model).items() if name.startswith("head")},
        {name: gradient / WORLD for name, gradient in gradients(bare).items() if name.startswith("head")},
    )
    assert all(gradient is None for name, gradient in gradients(model).items() if name.startswith("layers"))
    plain = DistributedDataParallel(model)  # the trap: PyTorch refuses the next forward, and names the way out
    squared_error(plain(mine[0]), mine[1]).backward()
    with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
        plain(mine[0])


def _ddp_feedback_alignment(rank):
    model, _, x, targets = whole_batch()
    FeedbackAlignment(seed=1).attach(model, example=x[:2])
    (squared_error(model(x), targets) / WORLD).backward()
    whole = copy.deepcopy(gradients(model))
    parallel = DistributedDataParallel(model)
    mine = _half(rank, x, targets)
    for _ in range(2):
        parallel.zero_grad()
        squared_error(parallel(mine[0]), mine[1]).backward()
        assert_same(gradients(model), whole)


def _sharded_then_attached(rank):
    _sharded(rank, "after")


def _attached_then_sharded(rank):
    _sharded(rank, "before")


def _sharded(rank, when):
    model, bare, x, targets = whole_batch()
    path = FeedbackPath(["layers.?"], error_at="head")  # the sharded modules are the points
    rule, mine = DirectFeedback(seed=1), _half(rank, x, targets)
    attached = rule.attach(model, path) if when == "before" else None
    for layer in model.layers:
        fully_shard(layer, reshard_after_forward=when != "before")
    fully_shard(model, reshard_after_forward=when != "before")
    attached = attached or rule.attach(model, path)
    for _ in range(2):
        model.zero_grad()
        squared_error(model(mine[0]), mine[1]).backward()
    found = {name: gradient.full_tensor() for name, gradient in gradients(model).items()}
    assert_same(found, expected(bare, x, targets, attached.matrices[0]))


def _tensor_parallel_is_refused(rank):
    mesh = init_device_mesh("cpu", (WORLD,))
    plan = {"layers.0.linear": ColwiseParallel(), "layers.1.linear": RowwiseParallel()}
    _, bare, x, _ = whole_batch()
    with pytest.raises(FeedbackError, match=r"'layers.0.linear.weight' is a DTensor: with tensor parallelism"):
        DirectFeedback(seed=1).attach(parallel := parallelize_module(copy.deepcopy(bare), mesh, plan), PATH)
    assert attachment_of(parallel) is None
    assert not any(layer.activation._forward_hooks for layer in parallel.layers)
    DirectFeedback(seed=1).attach(bare, PATH, example=x)
    parallelize_module(bare, mesh, plan)
    with pytest.raises(FeedbackError, match="is a DTensor"):
        bare(x)


# One pair of processes per kind of wrapper: starting them is what takes the time.


def test_gradients_of_ddp_over_two_processes_equal_one_process():
    in_two_processes(_ddp_steps, _ddp_matrix_from_first_batch_and_patterns_with_its_prefix, _ddp_shallow, _ddp_compiled)
    in_two_processes(_ddp_feedback_alignment, _ddp_streaming)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="fully_shard of PyTorch 2.6 does not run on a CPU")
def test_sharded_modules_over_two_processes_learn_as_in_one_and_tensor_parallelism_is_refused():
    in_two_processes(_sharded_then_attached, _attached_then_sharded, _tensor_parallel_is_refused)


# Lightning Fabric.


def _fabric_learns(fabric):
    model, bare, x, targets = whole_batch()
    attached = DirectFeedback(seed=1).attach(model, PATH, example=x[:2])
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    rank, world = fabric.global_rank, fabric.world_size
    mine = x.chunk(world)[rank], targets.chunk(world)[rank]
    optimizer.zero_grad()
    fabric.backward(squared_error(wrapped(mine[0]), mine[1]))
    reference = mlp_reference(bare, x, targets, attached.matrices[0])
    assert_same(gradients(model), {name: gradient / world for name, gradient in reference.items()})
    fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
    optimizer.step()
    assert attachment_of(wrapped) is attached
    if world > 1:
        del wrapped, optimizer  # outliving the group, they would end it with Python's lock held, and may wait forever
        gc.collect()
        dist.destroy_process_group()  # gloo's threads abort a process that ends before they are joined


def test_fabric_in_one_process():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    _fabric_learns(fabric)


def test_fabric_over_two_processes():
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(_fabric_learns)


def test_fabric_in_bfloat16_learns_like_autocast():
    model, bare, x, targets = whole_batch()
    model, bare, x, targets = model.float(), bare.float(), x.float(), targets.float()
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    DirectFeedback(seed=1).attach(model, PATH, example=x)
    wrapped = fabric.setup(model)
    fabric.backward(squared_error(wrapped(x), targets))
    DirectFeedback(seed=1).attach(bare, PATH, example=x)
    with torch.autocast("cpu", torch.bfloat16):
        output = bare(x)
    squared_error(output.float(), targets).backward()
    assert_same(gradients(model), gradients(bare), atol=1e-6)


def test_attaching_to_the_wrapper_of_fabric_is_attaching_to_the_model():
    model, bare, x, targets = whole_batch()
    wrapped = Fabric(accelerator="cpu", devices=1).setup(model)
    attached = DirectFeedback(seed=1).attach(wrapped, PATH, example=x)
    squared_error(wrapped(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))
    with pytest.raises(AlreadyAttached):
        DirectFeedback().attach(model, PATH)
    attached.remove()
    assert attachment_of(wrapped) is None
