"""Lines on their way to a client: whoever makes them need not wait until a slow reader has taken them."""

import threading
import time
from collections import deque
from collections.abc import Callable


class Gone(Exception):
    """The client has hung up, or reads so slowly that it is not waited for."""


class Outgoing:
    """A queue with a thread that sends.

    Args:
        send: returns when the bytes are on their way; OSError if the client is gone.
        most: bytes that may wait; one line may always.
        patience: for how many seconds in all `put` waits for room.
    """

    def __init__(self, send: Callable[[bytes], None], most: int, patience: float):
        self._send, self._most, self._patience = send, most, patience
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()  # the first is being sent
        self._waiting = 0
        self._complete = self._gone = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line sent after those before it. Raises Gone."""
        with self._changed:
            while self._lines and self._waiting + len(line) > self._most and not self._gone:
                began = time.monotonic()
                if self._patience <= 0:
                    raise Gone
                self._changed.wait(self._patience)
                self._patience -= time.monotonic() - began
            if self._gone:
                raise Gone
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until everything is sent, or the client is gone."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._complete:
                    self._changed.wait()
                if not self._lines:
                    return
                line = self._lines[0]
            try:
                self._send(line)
            except OSError:
                with self._changed:
                    self._gone = True
                    self._lines.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._lines.popleft()
                self._waiting -= len(line)
                self._changed.notify_all()
