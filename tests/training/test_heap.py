"""Large tensors are given back when they are freed, whatever was freed before."""

import os
import platform
import subprocess
import sys

import pytest

from flowgression.training.heap import SETTINGS

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

SCRIPT = """
import re, sys
from pathlib import Path
import torch
from flowgression.training.heap import map_large_tensors

def resident():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

told = map_large_tensors()
del_first = torch.ones(2**23 - 2**10)  # just below 32 MiB: glibc's threshold would rise to it
del del_first
tensors = [torch.ones(2**20) for _ in range(64)]  # 4 MiB each
full = resident()
del tensors[:-1]  # the last one lies at the end of the heap, if there is one
print(told, (full - resident()) / (63 * 2**22))
"""


@pytest.mark.parametrize("chosen", [False, True])
def test_freed_tensors_are_given_back_unless_the_user_chose(chosen: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    if chosen:
        environment["MALLOC_MMAP_THRESHOLD_"] = str(2**26)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    told, share = done.stdout.split()
    assert told == str(not chosen)
    assert float(share) < 0.05 if chosen else float(share) > 0.95
