"""Stopping politely: SIGINT (Ctrl-C) and SIGTERM are noted, and the loop ends after the step it is in."""

import signal
import threading
from types import FrameType


class StopSignals:
    """Context manager; `received` is the first signal that came, or None. A second Ctrl-C interrupts at once.

    Python allows handlers in the main thread only; elsewhere the signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
