"""The kernels against the slow forms, run by Triton's interpreter; see interpreter.py."""

import pytest

from tests.kernels.interpreter import needs_triton, run_interpreted

pytestmark = needs_triton


@pytest.mark.parametrize("name", ["lowrank", "hybrid", "gated_norm"])
def test_kernels_by_the_interpreter(name: str) -> None:
    run_interpreted(name, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lowrank", "hybrid"])
def test_kernels_by_the_interpreter_at_large_sizes(name: str) -> None:
    run_interpreted(name, "slow")
