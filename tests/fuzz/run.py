"""Running many cases: `fuzz`, what it counts, and what long work it leaves out."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

from tests.fuzz.base import Base
from tests.fuzz.harness import clean, run_case
from tests.fuzz.kinds import make_case

FULL_TRAINING = ("training", "resumed")  # kinds that train, a step; the others stop where training would start


@dataclass
class Counts:
    """Cases, exit statuses and seconds by kind, and all faults as (kind, number, sentence)."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[tuple[str, int, str]] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        lines = [f"{'kind':<16}{'cases':>7}{'status 0':>10}{'1':>6}{'2':>7}{'faults':>8}{'seconds':>9}"]
        for kind, count in self.cases.items():
            by_status = [self.statuses[kind, status] for status in (0, 1, 2)]
            faults = sum(entry[0] == kind for entry in self.faults)
            zero, one, two = by_status
            lines.append(f"{kind:<16}{count:>7}{zero:>10}{one:>6}{two:>7}{faults:>8}{self.seconds[kind]:>9.1f}")
        total, seconds = sum(self.cases.values()), sum(self.seconds.values())
        lines.append(f"{total} cases, {len(self.faults)} faults, {seconds:.0f} s of CPU, slowest {self.slowest:.1f} s")
        return "\n".join(lines)


def fuzz(
    cases: Iterable[tuple[str, int]], base: Base, folder: Path, show: Callable[[str], None] = lambda text: None
) -> Counts:
    """Run the cases, each in a new folder below `folder`."""
    counts = Counts()
    with no_network():
        for kind, index in cases:
            place = folder / f"{kind}-{index}"
            place.mkdir(parents=True)
            case = make_case(kind, index, base, place)
            start = time.process_time()
            with nothing_long() if kind not in FULL_TRAINING else no_patch():
                outcome = run_case(case, place)
            seconds = time.process_time() - start
            counts.cases[kind] += 1
            counts.statuses[kind, outcome.status] += 1
            counts.seconds[kind] += seconds
            counts.slowest = max(counts.slowest, seconds)
            for fault in outcome.faults:
                counts.faults.append((kind, index, fault))
                show(f"{kind} {index}: {fault}")
            clean(place)
    return counts


@contextmanager
def no_patch() -> Iterator[None]:
    yield


@contextmanager
def nothing_long() -> Iterator[None]:
    """Training ends before its start: the configuration has been read and checked."""
    from flowgression.training import TrainResult

    def not_trained(config: object, **switches: bool) -> TrainResult:
        return TrainResult(0, Path("checkpoint"), Path("pipeline"), None)

    with patch("flowgression.training.loop.train", not_trained):
        yield


@contextmanager
def no_network() -> Iterator[None]:
    """The hub's libraries answer at once that they are offline."""
    with ExitStack() as stack:
        stack.enter_context(patch("huggingface_hub.constants.HF_HUB_OFFLINE", True))
        if find_spec("datasets"):
            stack.enter_context(patch("datasets.config.HF_HUB_OFFLINE", True))
        yield
