"""Who is connected: a bounded number of connections, of which strangers give way to newcomers.

Every process of the machine can connect, whoever it belongs to. A connection is a stranger's until it has shown the
token. Strangers have little time, and when all places are taken, the oldest of them is hung up on, of that address that
holds the most places: a crowd that only holds connections open keeps nobody out.
"""

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass


@dataclass(eq=False)
class Connection:
    """One of them.

    Attributes:
        peer: the address at the other end.
        deadline: on the monotonic clock, when it is hung up on; None for never.
        trusted: whether it has shown the token.
    """

    peer: str
    deadline: float | None
    trusted: bool = False


class Connections:
    """The open connections, oldest first.

    Args:
        most: how many there are at once.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._open: dict[socket.socket, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, one: socket.socket, peer: str, seconds: float) -> bool:
        """Take a newcomer in, for so long at first; False where trusted connections hold all places."""
        with self._lock:
            if len(self._open) >= self._most and not self._make_room():
                return False
            self._open[one] = Connection(peer, time.monotonic() + seconds)
            return True

    def expect(self, one: socket.socket, seconds: float | None, trusted: bool = False) -> None:
        """From now on it may last so long, None for as long as it likes; `trusted` once it has shown the token."""
        with self._lock:
            if (entry := self._open.get(one)) is not None:
                entry.deadline = None if seconds is None else time.monotonic() + seconds
                entry.trusted = entry.trusted or trusted

    def leave(self, one: socket.socket) -> None:
        """It is over."""
        with self._lock:
            self._open.pop(one, None)

    def sweep(self) -> None:
        """Hang up on those whose time is over."""
        now = time.monotonic()
        with self._lock:
            over = [one for one, entry in self._open.items() if entry.deadline is not None and entry.deadline < now]
            for one in over:
                self._hang_up(one)

    def _make_room(self) -> bool:
        strangers = [(one, entry.peer) for one, entry in self._open.items() if not entry.trusted]
        held = Counter(peer for _, peer in strangers)
        if not strangers:
            return False
        most = max(held.values())
        self._hang_up(next(one for one, peer in strangers if held[peer] == most))
        return True

    def _hang_up(self, one: socket.socket) -> None:
        """Its thread sees the end of the connection at once, whatever it waits for."""
        self._open.pop(one, None)
        with suppress(OSError):  # closed already
            one.shutdown(socket.SHUT_RDWR)
