"""Several implementations of one operation, its backends, and which of them a call takes.

They take the same arguments, return the same results and differ in speed. One is the default; a backend made for a kind
of device is taken there by itself. The argument `backend` of an operation names another, and FLOWGRESSION_KERNELS=off
leaves every choice at the default.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from flowgression.errors import InputError, did_you_mean

SWITCH = "FLOWGRESSION_KERNELS"
Function = TypeVar("Function")


@dataclass(frozen=True)
class Backend(Generic[Function]):
    """One backend of an operation.

    Attributes:
        load: returns what computes it. It is called once the backend was chosen, so that a library is imported on need.
        refuses: given the call's tensors and the settings that the operation names, why this backend cannot take them;
            None if it can. Must be cheap: it is asked in every call.
        suits: whether this backend is taken by itself where it can be; it says nothing for the default.
    """

    load: Callable[[], Function]
    refuses: Callable[..., str | None] = lambda *_, **__: None
    suits: Callable[[Tensor], bool] = lambda _: False


class Operation(Generic[Function]):
    """The backends of one operation by name, the first being the default.

    >>> from flowgression.ops.backends import Backend, Operation
    >>> import torch
    >>> by_sum, by_product = Backend(lambda: lambda x: x + x), Backend(lambda: lambda x: 2 * x)
    >>> double = Operation("double", {"sum": by_sum, "product": by_product})
    >>> double.choose("product", torch.ones(1))(torch.ones(1))
    tensor([2.])
    """

    def __init__(self, name: str, backends: dict[str, Backend[Function]]):
        self.name = name
        self.backends = backends
        self.default = next(iter(backends))

    def choose(self, backend: str | None, *tensors: Tensor, **settings: Any) -> Function:
        """What computes the backend of this name, or for None the backend that suits these tensors.

        Raises:
            InputError: no backend has this name, or it cannot take these tensors; or FLOWGRESSION_KERNELS is neither
                "auto" nor "off".
        """
        return self.backends[self.name_for(backend, *tensors, **settings)].load()

    def name_for(self, backend: str | None, *tensors: Tensor, **settings: Any) -> str:
        """The name of the backend that `choose` takes."""
        if backend is None:
            return self._suited(*tensors, **settings)
        if backend not in self.backends:
            raise InputError(f"{self.name} has no backend {backend!r}: {did_you_mean(backend, list(self.backends))}")
        reason = self.backends[backend].refuses(*tensors, **settings)
        if reason:
            raise InputError(
                f"the backend {backend!r} of {self.name} cannot be used: {reason}. Use backend={self.default!r}."
            )
        return backend

    def _suited(self, *tensors: Tensor, **settings: Any) -> str:
        if kernels_are_on():
            for name, backend in self.backends.items():
                if name != self.default and backend.suits(tensors[0]) and not backend.refuses(*tensors, **settings):
                    return name
        return self.default


def kernels_are_on() -> bool:
    """Whether backends may be taken by themselves: what FLOWGRESSION_KERNELS says, "auto" if it is not set."""
    value = os.environ.get(SWITCH, "auto")
    if value not in ("auto", "off"):
        raise InputError(f"{SWITCH}={value!r} is unknown: set it to auto or off, or unset it.")
    return value == "auto"


def needs_torch(*tensors: Tensor) -> str | None:
    """Why only operations of torch can take these tensors now; None if their memory can be handed to other code."""
    if any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors) or _get_current_dispatch_mode_stack():
        # Such a tensor has no memory of its own, and who counts or records operations sees those of torch alone.
        return "operations are counted, recorded or simulated"
    if forward_ad._current_level >= 0:
        return "it has no derivative in forward mode"
    return None
