"""Faults planted around what a function does: in its arguments, its result, or in what torch does while it runs."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from flowgression import families

# A module that is first imported while a fault is planted would keep the wrong function.
for _found in pkgutil.walk_packages(families.__path__, f"{families.__name__}."):
    importlib.import_module(_found.name)

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A function made wrong."""


class Fault(NamedTuple):
    """`function`, "package.module:name" of flowgression, made wrong; `check` and `model` find it."""

    check: str
    model: str
    function: str
    wrap: Wrap


def cpu(values: Any) -> Any:
    """Tensors on the processor."""
    return tree_map_only(Tensor, lambda x: x.cpu(), values)


def argument(place: int, change: Callable[[Any], Any]) -> Wrap:
    """With another argument."""
    return lambda right: wraps(right)(
        lambda *given, **named: right(*given[:place], change(given[place]), *given[place + 1 :], **named)
    )


def attribute(name: str, change: Callable[[Any], Any]) -> Wrap:
    """A method of an object that has another attribute."""

    def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: Any, *given: Any, **named: Any) -> Any:
            vars(self)[name] = change(getattr(self, name))
            return right(self, *given, **named)

        return wrong

    return wrap


def result(change: Callable[[Any], Any]) -> Wrap:
    """With another result."""
    return lambda right: wraps(right)(lambda *given, **named: change(right(*given, **named)))


def then(act: Callable[[Tensor], Any]) -> Wrap:
    """Something is done with the first tensor of the result; or of the arguments, where it has none."""

    def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(right)
        def wrong(*given: Any, **named: Any) -> Any:
            found = right(*given, **named)
            act(next(x for x in tree_leaves((found, given)) if isinstance(x, Tensor)))
            return found

        return wrong

    return wrap


def made(self_name: str, change: Callable[[Any], Any]) -> Wrap:
    """A constructor, after which an attribute is another."""

    def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: Any, *given: Any, **named: Any) -> None:
            right(self, *given, **named)
            setattr(self, self_name, change(getattr(self, self_name)))

        return wrong

    return wrap


def during(owner: Any, name: str, **changed: Any) -> Wrap:
    """While it runs, calls of `owner.name` have these keywords, where they have them at all; None leaves one out."""

    def replaced() -> Any:
        plain = getattr(owner, name)

        def other(*given: Any, **named: Any) -> Any:
            named |= {key: value for key, value in changed.items() if key in named}
            return plain(*given, **{key: value for key, value in named.items() if value is not None})

        return patch.object(owner, name, other)

    def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*given: Any, **named: Any) -> Any:
            with replaced():
                return right(*given, **named)

        def wrong_steps(*given: Any, **named: Any) -> Any:
            with replaced():
                yield from right(*given, **named)

        return wrong_steps if inspect.isgeneratorfunction(right) else wrong

    return wrap


def inject(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Put the wrong function in the place of the right one, wherever it was imported to."""
    module_name, _, path = fault.function.partition(":")
    owner: Any = importlib.import_module(f"flowgression.{module_name}")
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    right = getattr(owner, name)
    wrong = fault.wrap(right)
    if classes:
        monkeypatch.setattr(owner, name, wrong)
        return
    for key, module in list(sys.modules.items()):
        if key.startswith(("flowgression.", "tests.simulated_gpu.")):
            for known, value in list(vars(module).items()):
                if value is right:
                    monkeypatch.setattr(module, known, wrong)


def copied(x: Tensor) -> Tensor:
    """A number sent to the device of x."""
    return torch.tensor(0.5, device=x.device)
