"""Weights in memory of their own, so that a loaded model computes the bits of the one that was saved."""

import hashlib
from collections.abc import Mapping
from typing import Any, Self

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from flowgression.errors import InputError


def own_weights(module: nn.Module) -> None:
    """Copy all parameters and buffers that lie on the CPU into storages of PyTorch's allocator, in place.

    safetensors maps weights from the file, at whatever offset they have there. Matrix libraries choose their
    instructions by alignment, so such weights can give other last bits than the same numbers elsewhere; and a file
    that is truncated under a living map ends the process. PyTorch's allocator aligns every storage to 64 bytes,
    which is what Intel's MKL asks for where equal runs are to give equal bits.
    """
    module._apply(_copy)


def check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    """InputError for weights among which a number is NaN or infinite, naming the tensor; `where` they are from."""
    for name, value in tensors.items():
        if not value.is_floating_point() or value.is_meta or not value.numel():
            continue
        wide = value if value.element_size() > 1 else value.float()  # float8 has no minimum
        if not all(bool(end.isfinite()) for end in wide.detach().aminmax()):
            raise InputError(
                f"{where}: the tensor {name!r} holds NaN or infinite numbers; the model was saved after its training "
                "had diverged, or the file is damaged. Take an earlier checkpoint."
            )


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The checksum of weights, as float32: of other weights, or under other names, it is another one."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def compute_dtype(layer: nn.Module) -> torch.dtype:
    """In which a layer with a weight computes: that of its weight, or of diffusers' layerwise casting, which keeps the
    weight in another one until the layer is called.
    """
    hooks = getattr(layer, "_diffusers_hook", None)
    casting = None if hooks is None else hooks.get_hook("layerwise_casting")
    return layer.weight.dtype if casting is None else casting.compute_dtype  # type: ignore[return-value,union-attr]


def dtype_for_diffusers(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a `from_pretrained` with `dtype` under the name that every version of diffusers knows."""
    return {"torch_dtype" if name == "dtype" else name: value for name, value in keywords.items()}


class OwnedWeights(ModelMixin):
    """A model of diffusers whose `from_pretrained` copies the weights out of the file (see `own_weights`)."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        loaded: Any = super().from_pretrained(*args, **dtype_for_diffusers(kwargs))
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        check_finite(model.state_dict(), args[0] if args else cls.__name__)
        own_weights(model)
        return loaded


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.device.type == "cpu" else tensor
