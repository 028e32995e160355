"""The attachment of rules that go layer by layer: a layer gets a detached input, and its input another gradient.

A forward pre-hook hands a layer its inputs detached, so that its local graph ends at its own weights. A forward hook
passes the layer's outputs through an autograd function, the identity, that takes the original inputs as well. Its
backward hands the gradients of the outputs on to the local graph, which makes those of the weights, and gives the
inputs the gradients that the layer would give them with other weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import grad as nn_grad
from torch.utils import _pytree as pytree

from dfa_bench.feedback.attachment import Attachment, LearningHook
from dfa_bench.feedback.errors import LayerNotReplayable, LayersUnknown
from dfa_bench.feedback.paths import ErrorSource
from dfa_bench.feedback.signature import with_known_signature
from dfa_bench.feedback.state import Autocast, GeneratorStates

INPUT_GRADIENT = {nn.Conv1d: nn_grad.conv1d_input, nn.Conv2d: nn_grad.conv2d_input, nn.Conv3d: nn_grad.conv3d_input}


class Layers(NamedTuple):
    """What a rule that goes layer by layer has found in a model, and drawn for it."""

    error_sources: Sequence[ErrorSource]  # see `Attachment`
    matrices: Mapping[nn.Module, Mapping[str, Tensor]]  # B by layer, and by the name of the weight that it replaces
    passed_by: Sequence[nn.Module]  # with weights, but not known as layers: refused when they get in the way

    @property
    def weights(self) -> list[nn.Parameter]:
        """Those that are replaced, in the order of `matrices`."""
        return [module.get_parameter(name) for module, layer in self.matrices.items() for name in layer]


class LayerwiseAttachment(Attachment):
    """Layers whose inputs get the gradient that other weights would give them; `state_dict` has those weights."""

    fed_by: ClassVar[str] = "feedback alignment"  # as descriptions say it

    def __init__(self, model: nn.Module, layers: Layers) -> None:
        super().__init__(model, layers.error_sources)
        names = {module: name for name, module in model.named_modules()}
        self._point_names = [names[module] for module in layers.matrices]
        self.keys: list[str] = []  # of the buffers with matrices
        self.runs_layers_again = any(
            not is_plain(module) or len(drawn) > 1 for module, drawn in layers.matrices.items()
        )
        for module, drawn in layers.matrices.items():
            keys = {}
            for weight, matrix in drawn.items():
                keys[weight] = f"{names[module]}.{weight}".strip(".").replace(".", "/")  # no dots in a buffer's name
                self.register_buffer(keys[weight], matrix)
            self.keys += keys.values()
            hook = LayerHook(self, names[module], keys)
            self.keep(module.register_forward_pre_hook(hook.enter, with_kwargs=True))
            # First of all, so that others see what the layers above get; recordings still come before.
            self.keep(module.register_forward_hook(hook.leave, prepend=True))
        self.watch({names[module]: module for module in layers.matrices})
        for module in layers.passed_by:
            self.keep(module.register_forward_pre_hook(PassedBy(names[module]), with_kwargs=True))

    @property
    def point_names(self) -> list[str]:
        return list(self._point_names)

    @property
    def matrices(self) -> list[Tensor]:
        """B of each weight of each layer, in the order of the model, in the shape of the weight."""
        return [getattr(self, key) for key in self.keys]

    def in_place_of(self, module: nn.Module, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """What replaces a layer's weights on the way back, by the name that they have in the layer.

        Args:
            module: the layer, whose forward has just run.
            keys: the name of the buffer that each weight has in this attachment.
        """
        return {weight: getattr(self, key) for weight, key in keys.items()}


@dataclass
class Call:
    """One call of a layer: its arguments, and which of them need a gradient."""

    leaves: list[Any]  # of (args, kwargs)
    spec: pytree.TreeSpec
    inputs: list[Tensor]  # those that need a gradient, each once
    places: dict[int, int]  # which leaf is which input

    @classmethod
    def of(cls, args: object, kwargs: object) -> Call:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        inputs: list[Tensor] = []
        places = {}
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                known = [number for number, other in enumerate(inputs) if other is leaf]
                places[place] = known[0] if known else len(inputs)
                inputs += [] if known else [leaf]
        return cls(leaves, spec, inputs, places)

    def with_inputs(self, inputs: Sequence[Tensor]) -> tuple[Any, Any]:
        """Arguments with other tensors in place of the inputs."""
        leaves = [inputs[self.places[at]] if at in self.places else leaf for at, leaf in enumerate(self.leaves)]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs


class LayerHook(LearningHook):
    """The two hooks of a layer."""

    def __init__(self, attachment: LayerwiseAttachment, name: str, keys: Mapping[str, str]) -> None:
        self.attachment, self.name, self.keys = attachment, name, dict(keys)
        self.call: Call | None = None  # the one under way, if its inputs need a gradient
        self.random: GeneratorStates | None = None  # at its start, where it must be run once more

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"call": None, "random": None}  # copies do not take over what a failed forward left

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        self.call = None
        if not torch.is_grad_enabled():
            return None
        call = Call.of(args, kwargs)
        if not call.inputs:
            return None
        self.call = call
        if not self._is_direct(module, call):
            if torch.compiler.is_compiling():
                raise LayerNotReplayable(
                    f"The rule runs the layer '{self.name}' ({type(module).__name__}) once more in the backward, which "
                    f"a compiled graph cannot contain. Compile with fullgraph=False."
                )
            if made := _made_by_hook(module):
                raise LayerNotReplayable(
                    f"The {made} of the layer '{self.name}' ({type(module).__name__}) is computed in a hook, as by "
                    f"torch.nn.utils.weight_norm, which the rule's second run of the layer would leave out. Use "
                    f"torch.nn.utils.parametrizations.{{weight_norm, spectral_norm}}; after pruning, prune.remove."
                )
            self.random = GeneratorStates([call.inputs[0].device])
        return call.with_inputs([each.detach() for each in call.inputs])

    def leave(self, module: nn.Module, args: object, output: object) -> object:
        call, self.call = self.call, None
        if call is None:
            return None
        fed_by, matrices = self.attachment.fed_by, self.attachment.in_place_of(module, self.keys)
        if self._is_direct(module, call):
            (inputs,), (matrix,) = call.inputs, matrices.values()
            if type(module) is nn.Linear:
                return LinearFeedback.apply(output, matrix, inputs, fed_by)
            conv: Any = module
            options = (conv.stride, conv.padding, conv.dilation, conv.groups)
            return ConvFeedback.apply(output, matrix, inputs, INPUT_GRADIENT[type(conv)], options, fed_by)
        leaves, spec = pytree.tree_flatten(output)
        places = [at for at, leaf in enumerate(leaves) if _is_differentiable(leaf)]
        assert self.random is not None
        replay = Replay(module, matrices, call, places, self.random)
        given = ReplayedFeedback.apply(replay, len(places), fed_by, *(leaves[at] for at in places), *call.inputs)
        for at, leaf in zip(places, given, strict=True):
            leaves[at] = leaf
        return pytree.tree_unflatten(leaves, spec)

    def _is_direct(self, module: nn.Module, call: Call) -> bool:
        """Whether the input gradient needs nothing but B."""
        if len(self.keys) > 1:
            return False
        if not is_plain(module):
            return False
        if type(module) is nn.Linear:
            return True
        conv: Any = module
        is_batch = call.inputs[0].ndim == conv.weight.ndim
        return is_batch and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def is_plain(module: nn.Module) -> bool:
    """Whether PyTorch has a function for a layer's input gradient: not for subclasses, which may do anything."""
    return type(module) is nn.Linear or type(module) in INPUT_GRADIENT


class PassedBy(LearningHook):
    """Pre-hook of a module with weights that the example did not run: a gradient through it would be W^T δ."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: object, kwargs: object) -> None:
        if torch.is_grad_enabled() and Call.of(args, kwargs).inputs:
            raise LayersUnknown(
                f"The layer '{self.name}' runs now, but did not when the rule was attached, so it has no "
                f"feedback matrix. Attach with an example that runs all layers."
            )


def _is_differentiable(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _made_by_hook(layer: nn.Module) -> str | None:
    """Name of a weight that a hook sets before each forward, from parameters that are named after it."""
    for module in layer.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and {f"{name}_orig", f"{name}_v"} & module._parameters.keys():
                return name
    return None


@with_known_signature
class LinearFeedback(torch.autograd.Function):
    """Identity on a linear layer's output whose backward gives its input δ B instead of δ W."""

    generate_vmap_rule = True  # gradients per sample: torch.func.vmap(grad(...))

    @staticmethod
    def forward(output: Tensor, matrix: Tensor, inputs: Tensor, fed_by: str) -> Tensor:
        return output.clone()  # a copy, so that in-place arithmetic above the layer stays possible

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.dtype, ctx.fed_by = inputs[2].dtype, [inputs[3]]

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,), (matrix,) = errors, ctx.saved_tensors
        return error, None, (error @ matrix.to(error.dtype)).to(ctx.dtype), None


@with_known_signature
class ConvFeedback(torch.autograd.Function):
    """Identity on a convolution's output whose backward gives its input the gradient with B as kernel."""

    @staticmethod
    def forward(
        output: Tensor, matrix: Tensor, inputs: Tensor, gradient: Any, options: tuple[Any, ...], fed_by: str
    ) -> Tensor:
        return output.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, matrix, images, ctx.gradient, ctx.options, fed_by = inputs
        ctx.save_for_backward(matrix)
        ctx.shape, ctx.dtype, ctx.fed_by = images.shape, images.dtype, [fed_by]

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,), (matrix,) = errors, ctx.saved_tensors
        below = ctx.gradient(ctx.shape, matrix.to(error.dtype), error, *ctx.options)
        return error, None, below.to(ctx.dtype), None, None, None


@with_known_signature
class ReplayedFeedback(torch.autograd.Function):
    """Identity on a layer's outputs whose backward gives its inputs the gradients of a replay with other weights."""

    @staticmethod
    def forward(replay: Replay, outputs: int, fed_by: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors[:outputs])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.replay, outputs, fed_by, *tensors = inputs
        ctx.save_for_backward(*tensors[outputs:])
        ctx.fed_by = [fed_by] * len(tensors[outputs:])

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *errors, *ctx.replay.input_gradients(ctx.saved_tensors, errors)


class Replay:
    """A call of a layer, to be run once more with other weights, the same random numbers and the same precision."""

    def __init__(
        self,
        module: nn.Module,
        matrices: Mapping[str, Tensor],
        call: Call,
        outputs: Sequence[int],
        random: GeneratorStates,
    ) -> None:
        self.module, self.matrices, self.outputs, self.random = module, matrices, outputs, random
        # Inputs are kept by autograd, which notices when they are changed in place.
        leaves = [None if at in call.places else leaf for at, leaf in enumerate(call.leaves)]
        self.call = Call(leaves, call.spec, [], call.places)
        self.autocast = Autocast([call.inputs[0].device.type])

    def input_gradients(self, inputs: Sequence[Tensor], errors: Sequence[Tensor]) -> Sequence[Tensor | None]:
        values = {name: weight.detach() for name, weight in self.module.named_parameters()}
        values |= {name: buffer.clone() for name, buffer in self.module.named_buffers()}  # what the replay may change
        values |= self.matrices
        fresh = [each.detach().requires_grad_() for each in inputs]
        args, kwargs = self.call.with_inputs(fresh)
        with torch.enable_grad(), self.random.again(), self.autocast.as_it_was():
            renamed = {f"layer.{name}": value for name, value in values.items()}
            output = functional_call(_Unhooked(self.module), renamed, args, kwargs, tie_weights=False)
        leaves = pytree.tree_leaves(output)
        reached = [(leaves[at], error) for at, error in zip(self.outputs, errors, strict=True)]
        reached = [(leaf, error) for leaf, error in reached if leaf.requires_grad]
        if not reached:
            return [None] * len(inputs)
        outputs, gradients = zip(*reached, strict=True)
        return torch.autograd.grad(outputs, fresh, gradients, allow_unused=True)


class _Unhooked(nn.Module):
    """A module without its own hooks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.forward(*args, **kwargs)
