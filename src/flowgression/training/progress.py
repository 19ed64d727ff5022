"""What a run shows while it trains: a bar in a terminal, plain lines elsewhere."""

from collections.abc import Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flowgression.terminal import Terminal


class ProgressDisplay:
    """The display of a run from `start` to `stop`.

    Args:
        start: Steps done before.
        total: Steps in the end.
        shown: False on all processes but one.
    """

    def __init__(self, start: int, total: int, *, shown: bool = True) -> None:
        self.total = total
        self.console = Terminal(quiet=not shown)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self._task = self._bar.add_task("", total=total, completed=start, numbers="")

    def start(self) -> None:
        """Draw the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Leave the bar as it is, and the terminal as it was."""
        self._bar.stop()

    def advance(self, step: int, total: int) -> None:
        """`step` steps of `total` are done."""
        self.total = total
        self._bar.update(self._task, completed=step, total=total)

    def report(self, step: int, values: Mapping[str, float], seconds_left: float) -> None:
        """Show the metrics of a logged step (loss, lr, images_per_second) and the time that is left."""
        numbers = f"loss {values['loss']:.4f}  lr {values['lr']:.2e}  {values['images_per_second']:.0f} images/s"
        self._bar.update(self._task, numbers=numbers)
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.total}  {numbers}  {_duration(seconds_left)} left")

    def say(self, *lines: str) -> None:
        """Print lines above the bar."""
        for line in lines:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
