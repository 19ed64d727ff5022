"""HTTP: who may ask, and what is answered. For one person on this machine.

It listens on 127.0.0.1 alone. A request must name this host (other names that point here are refused, so that no
foreign site can reach it through the browser), and one to /api must carry the token of this run. No path, file or URL
is taken from a client; files come from a table that is filled at the start.
"""

import hmac
import json
import secrets
import select
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from flowgression.errors import InputError
from flowgression.web.classifier import classify
from flowgression.web.frames import draw
from flowgression.web.models import Served
from flowgression.web.request import read_request
from flowgression.web.static import page_files
from flowgression.web.turns import GaveUp, QueueFull, Turns

MOST_BODY = 4 * 2**20  # bytes
MOST_CONNECTIONS = 64
READ_TIME = 15.0  # seconds in which a request has to be here
WRITE_TIME = 30.0  # seconds for which a client may leave an answer unread
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the page's address
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gone(Exception):
    """The client has hung up."""


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
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, models: Mapping[str, Served], port: int = 0, token: str | None = None):
        self.models = models
        self.token = token or secrets.token_urlsafe(24)
        self.files = page_files()
        self.turns = Turns()
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(("127.0.0.1", port), Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, or a refusal where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(1)
        with suppress(OSError):  # gone already
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place free."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news; anything else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], OSError | Gone):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: an answer ends where the connection does."""

    server: PageServer
    server_version = "flowgression"
    sys_version = ""
    timeout = READ_TIME

    def setup(self) -> None:
        super().setup()
        # However slowly its bytes drip in, a request is here after this time, or the connection is closed.
        self._deadline = threading.Timer(READ_TIME, self._hang_up)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):  # closed already
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._answer({"/api/models": self._models}, self._file)

    def do_HEAD(self) -> None:
        self._answer({}, self._file)

    def do_POST(self) -> None:
        self._answer({"/api/sample": self._sample, "/api/classify": self._classify}, self._unknown)

    def _answer(self, known: Mapping[str, Any], otherwise: Any) -> None:
        path = urlsplit(self.path).path
        try:
            self._check(path)
            known.get(path, otherwise)()
        except Refused as refusal:
            self._send(refusal.status, {"error": str(refusal)}, **refusal.headers)
        except InputError as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _check(self, path: str) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, f"this server answers to {sorted(self.server.hosts)} only")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "pages of other origins are not answered")
        if path.startswith("/api"):
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode()):
                raise Refused(
                    HTTPStatus.UNAUTHORIZED,
                    "the token is missing or wrong: open the address that flowgression serve prints",
                    WWW_Authenticate="Bearer",
                )

    def _file(self) -> None:
        file = self.server.files.get(urlsplit(self.path).path)
        if file is None:
            self._unknown()
            return
        self._start(HTTPStatus.OK, file.content_type, len(file.content))
        if self.command != "HEAD":
            self.wfile.write(file.content)

    def _unknown(self) -> None:
        known = {"/api/models": "GET, HEAD", "/api/sample": "POST", "/api/classify": "POST"}
        path = urlsplit(self.path).path
        allowed = known.get(path, "GET, HEAD" if path in self.server.files else None)
        if allowed and self.command not in allowed:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command} is not possible here", Allow=allowed)
        raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _models(self) -> None:
        self._send(HTTPStatus.OK, {"models": [model.about for model in self.server.models.values()]})

    def _classify(self) -> None:
        self._send(HTTPStatus.OK, {"probabilities": classify(self._body())})

    def _sample(self) -> None:
        request = read_request(self._body(), self.server.models)
        started = False

        def emit(frame: dict[str, Any]) -> None:
            nonlocal started
            if not self._still_there():
                raise Gone
            if not started:
                self._start(HTTPStatus.OK, "application/x-ndjson")
                started = True
            self.wfile.write(json.dumps(frame).encode() + b"\n")
            self.wfile.flush()

        try:
            with self.server.turns.turn(self._still_there):
                draw(request, emit)
        except QueueFull:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "other pictures are being drawn; try again soon", Retry_After="2"
            ) from None
        except (Gone, GaveUp, OSError):
            self.close_connection = True  # nobody reads
        except (InputError, FloatingPointError) as error:
            if not started:
                raise InputError(str(error)) from error
            self.wfile.write(json.dumps({"error": str(error)}).encode() + b"\n")

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
        if int(length) > MOST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {MOST_BODY} bytes")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request must be application/json")
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise Gone
        self._deadline.cancel()
        self.connection.settimeout(WRITE_TIME)
        try:
            return json.loads(content, parse_constant=_no_constant)
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

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would be in the log."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")
