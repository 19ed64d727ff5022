"""Which backend of an operation a call takes."""

import pytest
import torch

from flowgression import InputError
from flowgression.ops import lowrank_attention
from flowgression.ops.backends import SWITCH, Backend, Operation

SMALL, LARGE = torch.zeros(1), torch.zeros(9)


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)


def numbers() -> Operation:
    """Backends that return their own name; "second" is made for long tensors, and takes none of float64."""

    def refuses(*tensors, limit=10):
        if tensors[0].dtype == torch.float64 or len(tensors[0]) > limit:
            return "it is picky"
        return None

    second = Backend(lambda: lambda: "second", refuses, suits=lambda x: len(x) > 5)
    return Operation("counting", {"first": Backend(lambda: lambda: "first"), "second": second})


def test_a_form_is_taken_where_it_suits_and_does_not_refuse():
    choose = numbers().choose
    assert choose(None, SMALL)() == "first"
    assert choose(None, LARGE)() == "second"
    assert choose(None, LARGE.double())() == "first"
    assert choose(None, LARGE, limit=8)() == "first"


def test_the_name_decides(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert numbers().choose("second", SMALL)() == "second"
    assert numbers().choose("first", LARGE)() == "first"


def test_the_switch_leaves_the_default(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert numbers().choose(None, LARGE)() == "first"
    monkeypatch.setenv(SWITCH, "auto")
    assert numbers().choose(None, LARGE)() == "second"


def test_wrong_names(monkeypatch):
    with pytest.raises(InputError, match=r"counting has no backend 'secnd': did you mean .second"):
        numbers().choose("secnd", SMALL)
    with pytest.raises(InputError, match=r"'second' of counting cannot be used: it is picky\. Use backend='first'"):
        numbers().choose("second", SMALL.double())
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(InputError, match=r"FLOWGRESSION_KERNELS='yes' is unknown: set it to auto or off"):
        numbers().choose(None, SMALL)


def test_low_rank_attention_on_a_processor():
    x = torch.ones(1, 2, 2)
    options = {"degree": 2, "bound": 1.0}
    assert torch.equal(*(lowrank_attention(x, x, x, **options, backend=backend).output for backend in (None, "torch")))
    with pytest.raises(InputError, match=r"'triton' of low-rank attention cannot be used: .*Use backend='torch'"):
        lowrank_attention(x, x, x, **options, backend="triton")
