"""Training and sampling of every family are one graph each, under torch.compile and torch.export."""

import pytest

from tests.families.cases import FamilyCase
from tests.graphs.cases import GRAPH_CASES, calls
from tests.graphs.checks import check_device, check_export, check_one_graph


def cases(*by_default: str) -> pytest.MarkDecorator:
    """All cases; those that are not named are slow."""
    marks = {name: () if name in by_default else (pytest.mark.slow,) for name in GRAPH_CASES}
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=name, marks=marks[name]) for name, case in GRAPH_CASES.items()]
    )


@cases("arflow", "sit", "flowar", "fastflowar")
def test_each_call_is_one_graph(case: FamilyCase) -> None:
    for call in calls(case):
        check_one_graph(call)


@cases()
def test_training_is_one_graph_with_its_gradient(case: FamilyCase) -> None:
    check_one_graph(calls(case)[0], "aot_eager")


@cases("arflow", "sit")
def test_every_tensor_of_a_graph_is_on_the_device(case: FamilyCase) -> None:
    for call in calls(case, "meta"):
        check_device(call)


@cases("arflow", "sit")
def test_each_call_is_exported(case: FamilyCase) -> None:
    for call in calls(case):
        check_export(call)
