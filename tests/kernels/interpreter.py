"""Running the tests of Triton kernels by Triton's interpreter: in a process of its own, since Triton has to be told
before it is imported, and other tests import it compiling.

`*_checks.py` in this folder hold the tests; `test_*.py` run them.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from flowgression.ops.triton_support import LOWEST, version

HERE = Path(__file__).parent
VERSION = version() or (0, 0)
needs_triton = pytest.mark.skipif(VERSION < LOWEST, reason="needs Triton: pip install 'flowgression[kernels]'")


def run_interpreted(marks: str) -> None:
    """Run the tests of all *_checks.py with these marks, and fail with their output unless all pass."""
    if VERSION < (3, 9) and numpy.lib.NumpyVersion(numpy.__version__) >= "2.4.0":
        pytest.skip("the interpreter of Triton 3.3 makes numbers of arrays in a way that NumPy 2.4 refuses")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", marks]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [*command, *map(str, sorted(HERE.glob("*_checks.py")))], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


if os.environ.get("TRITON_INTERPRET") == "1":
    # The interpreter warns where a number of a kernel overflows on purpose, in rows that are masked.
    numpy.seterr(all="ignore")
