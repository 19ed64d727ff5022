"""HTTP: who may ask, and what is answered. For one person on this machine.

It listens on 127.0.0.1 alone. A request must name this host (other names that point here are refused, so that no
foreign site can reach it through the browser), and one to /api must carry the token of this run. No path, file or URL
is taken from a client; files come from a table that is filled at the start. Connections without the token have little
time and give way to newcomers (`connections.py`); pictures are drawn at their own pace, however slowly an answer is
read (`outgoing.py`).
"""

import hmac
import json
import math
import re
import secrets
import select
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flowgression.errors import InputError
from flowgression.web.classifier import classify
from flowgression.web.connections import Connections
from flowgression.web.font import font_file
from flowgression.web.frames import draw
from flowgression.web.models import Served
from flowgression.web.outgoing import Gone, Outgoing
from flowgression.web.request import Request, read_request
from flowgression.web.static import page_files
from flowgression.web.turns import GaveUp, QueueFull, Turns

MOST_BODY = 4 * 2**20  # bytes
MOST_CONNECTIONS = 64
MOST_ANSWERS = 8  # pictures on their way to their readers
MOST_WAITING = 64 * 2**20  # bytes of a picture that its reader has not taken yet
IDLE_TIME = 5.0  # seconds that a client may be silent while its request is read
HEADER_TIME = 5.0  # seconds in which the head of a request has to be here
READ_TIME = 15.0  # seconds for the rest: the body of a request with the token, the answer of one without
WRITE_TIME = 30.0  # seconds in which a client takes a line of a picture
PATIENCE = 30.0  # seconds in all that drawing waits for a reader whose line is full
MOST_DIGITS = 20  # of a whole number
ONCE = ("Host", "Origin", "Authorization", "Content-Type", "Content-Length", "Transfer-Encoding")  # headers
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the address that opens the page
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str, **headers: str):
        super().__init__(reason)
        self.status = status
        self.headers = headers


class PageServer(ThreadingHTTPServer):
    """The page and its API for these models.

    Args:
        port: 0 takes a free one.
        token: what /api asks for; by default a new one.
        on_first_use: called when a request with the token comes for the first time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        models: Mapping[str, Served],
        port: int = 0,
        token: str | None = None,
        on_first_use: Callable[[], None] = lambda: None,
    ):
        self.models = models
        self.token = token or secrets.token_urlsafe(24)
        self.files = page_files()
        self.turns = Turns()
        self.answers = threading.BoundedSemaphore(MOST_ANSWERS)
        self.connections = Connections(MOST_CONNECTIONS)
        self.on_first_use = on_first_use
        super().__init__(("127.0.0.1", port), Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def used(self) -> None:
        """A request with the token has come."""
        call, self.on_first_use = self.on_first_use, lambda: None
        call()

    def service_actions(self) -> None:
        """Now and then, by `serve_forever`."""
        self.connections.sweep()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, or a refusal where there are too many."""
        if self.connections.admit(request, client_address[0], HEADER_TIME):
            super().process_request(request, client_address)
            return
        request.settimeout(1)
        lines = ["HTTP/1.0 503 Service Unavailable", "Retry-After: 1", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in HEADERS.items()]
        with suppress(OSError):  # gone already
            request.sendall("\r\n".join([*lines, "", ""]).encode())
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place free."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news; anything else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], OSError | Gone):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: an answer ends where the connection does."""

    server: PageServer
    server_version = "flowgression"
    sys_version = ""
    default_request_version = "HTTP/1.0"  # of a line that names none: answers have headers in any case
    timeout = IDLE_TIME

    def do_GET(self) -> None:
        self._answer({"/api/models": self._models}, self._file)

    def do_HEAD(self) -> None:
        self._answer({}, self._file)

    def do_POST(self) -> None:
        known = {"/api/sample": self._sample, "/api/classify": self._classify, "/api/font": self._font}
        self._answer(known, self._unknown)

    def _answer(self, known: Mapping[str, Any], otherwise: Any) -> None:
        try:
            path = self._checked()
            known.get(path, otherwise)()
        except Refused as refusal:
            self._send(refusal.status, {"error": str(refusal)}, **refusal.headers)
        except InputError as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _checked(self) -> str:
        """The path that is asked for, once whoever asks may. Raises Refused."""
        self.server.connections.expect(self.connection, READ_TIME)
        for name in ONCE:
            if len(self.headers.get_all(name, [])) > 1:
                raise Refused(HTTPStatus.BAD_REQUEST, f"a request has one {name} at most")
        if self.headers.defects:
            raise Refused(HTTPStatus.BAD_REQUEST, "the head of the request is none of HTTP")
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, f"this server answers to {sorted(self.server.hosts)} only")
        origin = self.headers.get("Origin")
        if origin is not None and _split(origin).netloc not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "pages of other origins are not answered")
        path = _split(self.path).path
        if path.startswith("/api"):
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode()):
                raise Refused(
                    HTTPStatus.UNAUTHORIZED,
                    "the token is missing or wrong: open the address that flowgression serve prints",
                    WWW_Authenticate="Bearer",
                )
            self.server.connections.expect(self.connection, READ_TIME, trusted=True)
            self.server.used()
        return path

    def _file(self) -> None:
        file = self.server.files.get(_split(self.path).path)
        if file is None:
            self._unknown()
            return
        self._start(HTTPStatus.OK, file.content_type, len(file.content))
        if self.command != "HEAD":
            self.wfile.write(file.content)

    def _unknown(self) -> None:
        known = {"/api/models": "GET, HEAD", "/api/sample": "POST", "/api/classify": "POST", "/api/font": "POST"}
        path = _split(self.path).path
        allowed = known.get(path, "GET, HEAD" if path in self.server.files else None)
        if allowed and self.command not in allowed:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command} is not possible here", Allow=allowed)
        raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _models(self) -> None:
        self._send(HTTPStatus.OK, {"models": [model.about for model in self.server.models.values()]})

    def _classify(self) -> None:
        self._send(HTTPStatus.OK, {"probabilities": classify(self._body())})

    def _font(self) -> None:
        content = font_file(self._body())
        self._start(HTTPStatus.OK, "font/ttf", len(content))
        self.wfile.write(content)

    def _sample(self) -> None:
        request = read_request(self._body(), self.server.models)
        if not self.server.answers.acquire(blocking=False):
            raise _busy("other pictures are still being read; try again soon")
        try:
            self._draw(request)
        finally:
            self.server.answers.release()

    def _draw(self, request: Request) -> None:
        outgoing: Outgoing | None = None

        def emit(frame: dict[str, Any]) -> None:
            nonlocal outgoing
            if not self._still_there():
                raise Gone
            if outgoing is None:
                self._start(HTTPStatus.OK, "application/x-ndjson")
                outgoing = Outgoing(self.connection.sendall, MOST_WAITING, PATIENCE)
            outgoing.put(json.dumps(frame).encode() + b"\n")

        try:
            with self.server.turns.turn(self._still_there):
                draw(request, emit)
        except QueueFull:
            raise _busy("other pictures are being drawn; try again soon") from None
        except (Gone, GaveUp, OSError):
            with suppress(OSError):  # closed already
                self.connection.shutdown(socket.SHUT_RDWR)  # nobody reads: what waits is not sent
        except (InputError, FloatingPointError) as error:
            if outgoing is None:
                raise InputError(str(error)) from error
            with suppress(Gone):
                outgoing.put(json.dumps({"error": str(error)}).encode() + b"\n")
        finally:
            if outgoing is not None:
                outgoing.finish()

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not re.fullmatch("[0-9]+", length):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
        if len(length) > MOST_DIGITS:
            raise Refused(HTTPStatus.BAD_REQUEST, f"a Content-Length of {len(length)} digits is no length")
        if int(length) > MOST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {MOST_BODY} bytes")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request must be application/json")
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise Gone
        self.server.connections.expect(self.connection, None)
        self.connection.settimeout(WRITE_TIME)
        try:
            return json.loads(content, parse_constant=_no_constant, parse_float=_finite, parse_int=_short)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the request is no JSON: {error}") from error

    def _still_there(self) -> bool:
        """Whether the client has not hung up. What it sends after its request is read by nobody."""
        try:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def _send(self, status: HTTPStatus, content: Any, **headers: str) -> None:
        body = json.dumps(content).encode()
        self._start(status, "application/json", len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: HTTPStatus, content_type: str, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself, answered like everything else."""
        self.close_connection = True
        self._send(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would be in the log."""


def _busy(reason: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, Retry_After="2")


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"this is no address: {error}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _short(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(text)} digits")
    return int(text)
