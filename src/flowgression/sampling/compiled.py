"""torch.compile of a model for sampling: one graph for all steps of a walk, with CUDA graphs on a GPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from flowgression.errors import InputError

MOST_GRAPHS = 64
"""Of one function: FlowAR needs one for each scale, twice where guidance stops, and again for a smaller last batch."""


def compile_for_sampling(model: Any, **options: Any) -> None:
    """Compile in place the networks that sampling calls. Any other number of images makes a graph of its own.

    options: of torch.compile, over fullgraph=True, dynamic=False (shapes differ by scale, not by step) and, on CUDA,
        mode="reduce-overhead": kernels of small models take less time than their launches.

    Raises InputError on a CPU without a C++ compiler, unless `options` name a backend.
    """
    limits: Any = torch._dynamo.config
    limits.cache_size_limit = max(limits.cache_size_limit, MOST_GRAPHS)  # torch stops compiling after 8
    on_cuda = model.device.type == "cuda"
    if model.device.type == "cpu" and "backend" not in options:
        check_compiler()
    # With all earlier images as context the state grows from step to step.
    grows = getattr(model.config, "context", None) == "full"
    defaults: dict[str, Any] = {"fullgraph": True, "dynamic": None if grows else False}
    if on_cuda and not {"mode", "options", "backend"} & options.keys():
        defaults["mode"] = "reduce-overhead"
    networks = list(getattr(model, "flow_heads", [model]))
    for network in networks:
        network.compile(**(defaults | options))
        if on_cuda:
            network._compiled_call_impl = with_own_outputs(network._compiled_call_impl)


def check_compiler() -> None:
    """InputError unless there is a C++ compiler, which torch.compile needs on a CPU: else the first call would fail."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise InputError(
            "torch.compile needs a C++ compiler on a CPU and found none; install g++, set CXX or do not compile. "
            "It is worth it on a CPU for thousands of images only."
        ) from error


def with_own_outputs(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` with outputs that the next call leaves alone: those of a CUDA graph lie where it writes them again."""

    def run(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return tree_map_only(Tensor, torch.clone, call(*args, **kwargs))

    return run
