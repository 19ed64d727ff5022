"""The kernels against the slow backends, run by Triton's interpreter; see interpreter.py."""

import pytest

from tests.kernels.interpreter import needs_triton, run_interpreted

pytestmark = needs_triton


def test_kernels_by_the_interpreter() -> None:
    run_interpreted("not slow")


@pytest.mark.slow
def test_kernels_by_the_interpreter_at_large_sizes() -> None:
    run_interpreted("slow")
