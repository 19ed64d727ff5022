"""One picture is drawn at a time; a few may wait, in the order in which they came."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class QueueFull(Exception):
    """As many wait as may."""


class GaveUp(Exception):
    """Whoever waited does so no longer."""


class Turns:
    """A bounded first-come, first-served lock.

    Args:
        most_waiting: how many may wait besides the one at work.
    """

    def __init__(self, most_waiting: int = 8):
        self._most = most_waiting
        self._changed = threading.Condition()
        self._line: deque[object] = deque()  # the first is at work

    @property
    def length(self) -> int:
        """How many are at work or wait."""
        return len(self._line)

    @contextmanager
    def turn(self, still_there: Callable[[], bool], every: float = 0.2) -> Iterator[None]:
        """Within it nobody else works.

        Args:
            still_there: asked now and then while waiting.

        Raises:
            QueueFull: too many wait. GaveUp: `still_there` said no.
        """
        ticket = object()
        with self._changed:
            if len(self._line) > self._most:
                raise QueueFull
            self._line.append(ticket)
        try:
            with self._changed:
                while self._line[0] is not ticket:
                    self._changed.wait(every)
                    if not still_there():
                        raise GaveUp
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()
