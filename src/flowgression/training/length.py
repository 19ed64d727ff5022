"""How long a run is: so many steps, or so many minutes."""

import time

from flowgression.training.config import TrainConfig

FIRST_PREVIEW = 45.0  # seconds after which a run of given minutes shows its first pictures
PARTS = 10  # previews and checkpoints of such a run
SHARES = {"preview": 0.05, "validation": 0.02, "fid": 0.05}  # of the time that goes into them, but for first and last
ENDING = 0.02  # share of the time that is kept for the last checkpoint and the pipeline
LAST_FID = 0.05  # share of the time that the last FID may take; one that takes more is left out


class RunLength:
    """Where a run is between its begin and its end. A run of given minutes has as many steps as fit into them.

    Args:
        config: `minutes`, `clock` and `max_steps` of it.
        seconds: what an interrupted run had used before.
        begun: what the clock showed when this process began with the run; None: now.

    Attributes:
        seconds: used up to the last `update`, of a run of given minutes the mean over all processes.
    """

    def __init__(self, config: TrainConfig, seconds: float = 0.0, begun: float | None = None) -> None:
        self._config = config
        self.seconds = seconds
        self._begun = (read_clock(config) if begun is None else begun) - seconds
        self._total = None if config.minutes is None else config.minutes * 60
        self._next = {"preview": min(FIRST_PREVIEW, self._part)} | dict.fromkeys(
            ("checkpoint", "validation", "fid"), self._part
        )
        self._slowest_fid = self._last_fid = 0.0  # seconds; so many are kept for the last one
        self._expected_fid = 0.0  # seconds, by what samples of previews take
        for kind, due in self._next.items():
            self._next[kind] = max(due, self._part * (seconds // self._part + 1)) if seconds else due

    @property
    def timed(self) -> bool:
        """Whether minutes were given."""
        return self._total is not None

    @property
    def _part(self) -> float:
        return 0.0 if self._total is None else self._total / PARTS

    def now(self) -> float:
        """Seconds that this process knows to be used."""
        return read_clock(self._config) - self._begun

    def update(self, seconds: float) -> None:
        """So many seconds are used, as all processes have agreed."""
        self.seconds = seconds
        self._last_fid = self._slowest_fid  # here, so that a step is the last one for all that asks

    def total_steps(self, step: int) -> int:
        """Steps in the end: as given, or at the speed of the steps so far, `step` of them done."""
        if self._total is None:
            return self._config.max_steps
        share = self.seconds / self._steps_end
        return step + 1 if share >= 1 else max(step + 1, round((step + 1) / max(share, 1e-3)))

    def seconds_left(self, step: int, steps_per_second: float) -> float:
        """Until the end."""
        if self._total is None:
            return (self._config.max_steps - step) / steps_per_second
        return max(self._total - self.seconds, 0.0)

    def is_over(self, step: int) -> bool:
        """Whether no step is left."""
        if self._total is None:
            return step >= self._config.max_steps
        return self.seconds >= self._steps_end

    @property
    def _steps_end(self) -> float:
        """Seconds after which a run of given minutes makes no more steps."""
        return 0.0 if self._total is None else self._total * (1 - ENDING) - self._last_fid

    def due(self, kind: str, step: int) -> bool:
        """Whether after `step` steps it is time for a "preview", "validation", "fid" or "checkpoint"; ask once a step.

        Validations and FIDs come with previews, or with checkpoints where there are no previews, and at the end.
        """
        if kind in ("validation", "fid") and self.is_over(step):
            return kind == "validation" or self._total is None or self._last_fid > 0
        if self._total is None:
            previews, checkpoints = self._config.preview.every, self._config.checkpoint_every
            often = {"preview": previews, "checkpoint": checkpoints}.get(kind, previews or checkpoints)
            return bool(often) and step % often == 0
        if kind == "preview" and (not self._config.preview.every or self.is_over(step)):
            return bool(self._config.preview.every)  # the last one is drawn in any case
        if self.seconds < self._next[kind]:
            return False
        if kind == "fid" and self.seconds + self._expected_fid > self._steps_end:
            return False  # the run would not end on time
        self._next[kind] = self._part * (self.seconds // self._part + 1)
        return True

    def took(self, kind: str, seconds: float) -> None:
        """A "preview", "validation" or "fid" took so many seconds, the same for all processes: the next one waits until
        this one was a small share of the time.
        """
        self._next[kind] = max(self._next[kind], self.seconds + seconds / SHARES[kind])
        if kind == "preview":
            self._expected_fid = seconds * self._config.preview.fid_images / self._config.preview.num_images
        if kind == "fid" and self._total is not None and seconds <= LAST_FID * self._total:
            self._slowest_fid = max(self._slowest_fid, seconds)


def read_clock(config: TrainConfig) -> float:
    """Seconds on the clock by which `config.minutes` are counted."""
    return time.process_time() if config.clock == "processor" else time.monotonic()
