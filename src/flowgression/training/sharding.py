"""Training with weights in shards: FSDP2 (torch's `fully_shard`), and the ways between shards and whole tensors.

With P processes each holds 1/P of every weight, of its average and of its optimiser state; the blocks' weights are put
together just before they are used and dropped again. Everything here also takes tensors that are not sharded, and
gives them back as they are.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from flowgression.errors import InputError


def shard_module(module: nn.Module, device_type: str, num_processes: int, *, bf16: bool) -> None:
    """Replace the parameters of `module` by shards over all processes (fully_shard), block by block.

    Args:
        device_type: "cuda" or "cpu", where the parameters are.
        bf16: send the blocks' weights in bfloat16, for a network that computes under autocast; gradients are summed
            in float32 all the same, and the shards themselves stay float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device_type, (num_processes,))
    policy = MixedPrecisionPolicy()
    if bf16:
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh)


def can_shard(device_type: str) -> bool:
    """Whether this torch can do it: `fully_shard` of torch 2.6 waits for events that its CPU streams do not have."""
    return device_type != "cpu" or hasattr(torch.cpu.Stream, "record_event")


def require_sharding(device_type: str) -> None:
    """InputError where weights in shards are asked for and this torch cannot do it."""
    if not can_shard(device_type):
        raise InputError(
            f"parallelism='fsdp2' on device={device_type!r} needs a newer torch than {torch.__version__} "
            "(pip install --upgrade torch); or use parallelism='ddp'"
        )


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network: the members of all its ModuleLists."""
    return [block for part in module.modules() if isinstance(part, nn.ModuleList) for block in part]


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters of `module` are shards."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def without_gradient_sync(module: Any) -> AbstractContextManager[None]:
    """Context in which a backward pass adds to this process's gradients and tells the others nothing."""
    if hasattr(module, "set_requires_gradient_sync"):  # sharded
        return _unsynchronised(module)
    return module.no_sync() if hasattr(module, "no_sync") else nullcontext()  # data parallel, or one process


@contextmanager
def _unsynchronised(module: Any) -> Any:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def local_part(tensor: Tensor) -> Tensor:
    """This process's shard of `tensor`, sharing its memory; the tensor itself if it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """`tensor` put together from its shards; every process has to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """All `tensors` put together, one after the other, where `keep`; elsewhere an empty dictionary.

    Every process has to call it, in the same order. What was sharded is copied to the CPU, so that a model that fits
    on no single device can be saved.
    """
    kept = {}
    for name, tensor in tensors.items():
        together = whole(tensor.detach())
        if keep:
            kept[name] = together.cpu() if isinstance(tensor, DTensor) else together
    return kept


def like_shards(source: Tensor, target: Tensor) -> Tensor:
    """The whole tensor `source` in shards like those of `target`; every process has to call it."""
    if not isinstance(target, DTensor):
        return source
    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements)


def load_whole(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """`load_state_dict` with whole tensors, whether or not the module is sharded."""
    targets = module.state_dict()
    module.load_state_dict(
        {name: like_shards(value, targets.get(name, value)) for name, value in tensors.items()}, strict=True
    )


def whole_model(model: Any, *, keep: bool) -> Any:
    """The diffusers model `model` if it is whole; else a whole copy of it where `keep`, None elsewhere.

    Every process has to call it.
    """
    if not is_sharded(model):
        return model
    device = next(model.parameters()).device
    tensors = whole_tensors(model.state_dict(), keep=keep)
    if not keep:
        return None
    copy = type(model).from_config(model.config)
    copy.load_state_dict(tensors)
    return copy.to(device).eval().requires_grad_(False)


def gradient_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients together, a 0-dim tensor, the same on every process."""
    return whole(torch.nn.utils.get_total_norm(list(gradients)))
