"""Whether this environment can write ONNX."""

import pytest

from flowgression import InputError
from flowgression.export.graph import require


def why_no_onnx() -> str:
    """What is missing; empty where nothing is."""
    try:
        require()
    except InputError as error:
        return str(error)
    return ""


needs_onnx = pytest.mark.skipif(bool(why_no_onnx()), reason=why_no_onnx())
