"""Several forms of one operation, and which of them a call takes.

The forms of an operation take the same arguments, return the same results and differ in speed. One is the default; a
form made for a kind of device is taken there by itself. The argument `form` of an operation names another, and
FLOWGRESSION_KERNELS=off leaves every choice at the default.
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
class Form(Generic[Function]):
    """One form of an operation.

    Attributes:
        load: returns what computes it. It is called once the form was chosen, so that a library is imported on need.
        refuses: given the call's tensors and the settings that the operation names, why this form cannot take them;
            None if it can. Must be cheap: it is asked in every call.
        suits: whether this form is taken by itself where it can be; for the form that is the default it says nothing.
    """

    load: Callable[[], Function]
    refuses: Callable[..., str | None] = lambda *_, **__: None
    suits: Callable[[Tensor], bool] = lambda _: False


class Operation(Generic[Function]):
    """The forms of one operation by name, the first being the default.

    >>> from flowgression.ops.forms import Form, Operation
    >>> import torch
    >>> double = Operation("double", {"sum": Form(lambda: lambda x: x + x), "product": Form(lambda: lambda x: 2 * x)})
    >>> double.choose("product", torch.ones(1))(torch.ones(1))
    tensor([2.])
    """

    def __init__(self, name: str, forms: dict[str, Form[Function]]):
        self.name = name
        self.forms = forms
        self.default = next(iter(forms))

    def choose(self, form: str | None, *tensors: Tensor, **settings: Any) -> Function:
        """What computes the form of this name, or for None the form that suits these tensors.

        Raises:
            InputError: no form has this name, or it cannot take these tensors; or FLOWGRESSION_KERNELS is neither
                "auto" nor "off".
        """
        return self.forms[self.name_for(form, *tensors, **settings)].load()

    def name_for(self, form: str | None, *tensors: Tensor, **settings: Any) -> str:
        """The name of the form that `choose` takes."""
        if form is None:
            return self._suited(*tensors, **settings)
        if form not in self.forms:
            raise InputError(f"{self.name} has no form {form!r}: {did_you_mean(form, list(self.forms))}")
        reason = self.forms[form].refuses(*tensors, **settings)
        if reason:
            raise InputError(f"the form {form!r} of {self.name} cannot be used: {reason}. Use form={self.default!r}.")
        return form

    def _suited(self, *tensors: Tensor, **settings: Any) -> str:
        if kernels_are_on():
            for name, form in self.forms.items():
                if name != self.default and form.suits(tensors[0]) and not form.refuses(*tensors, **settings):
                    return name
        return self.default


def kernels_are_on() -> bool:
    """Whether forms may be taken by themselves: what FLOWGRESSION_KERNELS says, "auto" if it is not set."""
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
