"""What a hook runs inside: compiled code, which ignores hooks added or removed later, or a backward."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def reset_compiler() -> None:
    """Forget compiled code, so that the next call compiles with the hooks that are there then."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def compile_by_hooks() -> None:
    """Make the compiler tell models apart by the hooks of their modules, from now on and in the whole process.

    By default it does not: a model with hooks would run the code compiled for another model of its class without any.
    """
    import torch._dynamo.config as dynamo  # slow, but an optimizer imports it too

    dynamo.skip_nnmodule_hook_guards = False


def without_compiler() -> AbstractContextManager[object]:
    """Run compiled parts of a model eagerly for a while."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def in_backward() -> bool:
    """Whether autograd runs a backward in this thread; inside torch.compile the question is not traceable: no."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def is_exporting() -> bool:
    """Whether torch.export runs; PyTorch 2.6 does not say."""
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()
