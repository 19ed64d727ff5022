"""`flowgression serve`: the page in a browser, with PyTorch behind it."""

import signal
import sys
import threading
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError
from flowgression.text import say

SUMMARY = "open a page on which models draw, step by step"

DESCRIPTION = """Serve a page on this machine alone (127.0.0.1) and open it in the browser. Models are the built-in
ones, or those given. The last line printed is the page's address with the token of this run; Ctrl-C stops.

  flowgression serve
  flowgression serve --model runs/photos --model sit-mnist --no-open"""

BUILTIN = ["sit-mnist", "arflow-mnist", "flowar-mnist", "fastflowar-mnist", "sit-mnist-meanflow", "arflow-glyphs"]


def run(argv: list[str]) -> int:
    """Run the command until SIGINT or SIGTERM. Returns the exit status."""
    parser = CommandParser("serve", DESCRIPTION)
    parser.add_argument(
        "--model", action="append", metavar="M", help="built-in name, folder, run, or owner/name; may be repeated"
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="of 127.0.0.1; 0 takes a free one (0)")
    parser.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    parser.add_num_threads(1)
    args = parser.parse(argv)
    if not 0 <= args.port < 65536:
        raise InputError(f"--port is {args.port}; expected 0 to 65535.")
    from flowgression.devices import pick_device
    from flowgression.web.models import load_models
    from flowgression.web.server import PageServer

    models = load_models(args.model or BUILTIN, pick_device(args.device))
    try:
        server = PageServer(models, args.port)
    except OSError as error:
        raise InputError(f"cannot listen on port {args.port} ({error.strerror}); try --port 0.") from error
    with server:
        _serve(server, ", ".join(models), opened=not args.no_open)
    return 0


def _serve(server: Any, names: str, opened: bool) -> None:
    """Say where the page is, and answer until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    say(f"{names}: open this page. Ctrl-C stops.")
    say(server.url, flush=True)
    if opened:
        _open_and_wait(server, stop)
    else:
        stop.wait()
    say("Stopped.", file=sys.stderr)
    server.shutdown()
    thread.join()


def _open_and_wait(server: Any, stop: threading.Event) -> None:
    """Open the page; what opens it is removed as soon as the page has asked for something."""
    from flowgression.web.launch import OneTimeFile

    with OneTimeFile(server.url) as file:
        server.on_first_use = file.remove
        file.open()
        stop.wait()
