"""How the processor's threads wait, and how many there are at most. A leaf; torch reads these when it is loaded.

Idle threads of OpenMP spin for some milliseconds before they sleep. On a machine whose cores are shared, with other
programs or with other virtual machines, they then hold cores that the thread they wait for needs, and everything takes
ten times as long or more. Asleep they cost some microseconds for each operation (`benchmarks/threads.py` measures it).
"""

import math
import os
import sys
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of processor time in so many


def prepare_threads() -> None:
    """Let idle threads sleep, and make no more threads than the container may use processors.

    Both are set in the environment, so that processes started from here have them too, and only where the user has set
    nothing. Nothing happens when torch is loaded already: its threads are as they are.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    allowed = quota()
    if allowed is not None and allowed < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed))


def quota(file: Path = QUOTA) -> int | None:
    """Processors that a container's limit on processor time comes to, at least one; None without a limit."""
    try:
        time, period = file.read_text().split()
    except (OSError, ValueError):  # no Linux, no container, or the older layout of control groups
        return None
    return None if time == "max" else max(1, math.ceil(int(time) / int(period)))
