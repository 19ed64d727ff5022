"""Sampling time of the library's choice of threads against fixed settings, beside busy neighbours.

    python benchmarks/threads.py [--rounds 5] [--images 16] [--steps 10] [--neighbours 0 1 2]

Each measurement is a process of its own, since torch reads the settings when it is loaded: one sampling to warm up,
then one that counts. All settings take turns in every round, so that other work on the machine meets them alike; the
table shows medians of the rounds. Exit status 1 where the library's choice is more than 1.3 times slower than the best
fixed setting. A neighbour is a process that computes without pause.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from rich.console import Console
from rich.table import Table

from flowgression.threads import WAITING

ALLOWED = 1.3
DEFAULT = "library's choice"
CORES = str(os.cpu_count() or 1)
FIXED = {
    "threads spin (torch's own)": {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": CORES},
    "passive, all cores": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": CORES},
    "short spin, all cores": {"GOMP_SPINCOUNT": "100", "OMP_NUM_THREADS": CORES},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
CHILD = """
import sys, time, flowgression, torch
images, steps = map(int, sys.argv[1:])
pipe = flowgression.load_pipeline("arflow-mnist")
pipe.set_progress_bar_config(disable=True)
for steps in (1, steps):
    begin = time.perf_counter()
    pipe([i % 10 for i in range(images)], num_inference_steps=steps, generator=torch.Generator().manual_seed(0))
print(time.perf_counter() - begin)
"""


def seconds(environment: dict[str, str], images: int, steps: int) -> float:
    """Sampling time in a new process with only this of the variables for threads."""
    clean = {name: value for name, value in os.environ.items() if name not in (*WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", CHILD, str(images), str(steps)]
    done = subprocess.run(command, env={**clean, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that compute without pause."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    settings = {DEFAULT: {}, **FIXED}
    console = Console()
    table = Table("Neighbours", *settings, "choice / best", title=f"seconds, {args.images} images, {args.steps} steps")
    good = True
    for count in args.neighbours:
        times: dict[str, list[float]] = {name: [] for name in settings}
        with neighbours(count):
            for round_ in range(args.rounds):
                for name, environment in settings.items():
                    times[name].append(seconds(environment, args.images, args.steps))
                    console.print(f"{count} neighbours, round {round_ + 1}, {name}: {times[name][-1]:.2f} s")
        median = {name: statistics.median(values) for name, values in times.items()}
        ratio = median[DEFAULT] / min(median[name] for name in FIXED)
        good = good and ratio <= ALLOWED
        table.add_row(str(count), *(f"{value:.2f}" for value in median.values()), f"{ratio:.2f}")
    console.print(table)
    console.print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}, {date.today()}; wanted: at most {ALLOWED}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
