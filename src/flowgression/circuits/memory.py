"""How much memory a circuit takes while it is built, told before building it."""

from pathlib import Path

from flowgression.circuits.ir import Statistics
from flowgression.errors import InputError

EDGE_BYTES, GATE_BYTES = 36, 48
"""Measured while building: growing arrays, their final copies and templates, per stored edge and per gate."""


def estimate(statistics: Statistics) -> float:
    """GiB that building takes at its peak, about."""
    return (statistics.edges * EDGE_BYTES + statistics.gates * GATE_BYTES) / 2**30


def available() -> float:
    """GiB of free memory, from /proc/meminfo; infinite where there is none."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return float("inf")
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) / 2**20


def check_fits(statistics: Statistics, limit: float | None = None) -> float:
    """The estimate in GiB. Raises InputError if it exceeds the limit (None: what is free)."""
    needed, allowed = estimate(statistics), available() if limit is None else limit
    if needed > allowed:
        raise InputError(
            f"the circuit of {statistics.gates:,} gates and {statistics.edges:,} stored edges needs about "
            f"{needed:.2f} GiB, {allowed:.2f} GiB may be used: take smaller sizes, or `count` it."
        )
    return needed
