"""Several processes that train or sample together: forked from one server, so that the libraries load only once."""

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

# The server has loaded the libraries but never computed; its children start in milliseconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "flowgression.cli.sample",
        "flowgression.cli.train",
        "flowgression.training.loop",
        "flowgression.families.arflow.model",
        "flowgression.families.arflow.pipeline",
        "flowgression.sampling.parts",
        "flowgression.data.mnist",
        "jsonargparse",
        "docstring_parser",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "torch.distributed.fsdp",
    ]
)


def run_command(arguments: Sequence[str], environment: dict[str, str], log: Path) -> None:
    """`flowgression ARGUMENTS` in this process, with its output in a file.

    With TEST_FILE_LIMIT in the environment no file can grow beyond so many bytes.
    """
    os.environ.update(environment)
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(opened, stream)
    if limit := environment.get("TEST_FILE_LIMIT"):  # a disk that is full for all but small files
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    import torch

    from flowgression.cli.main import main

    torch.set_num_threads(1)
    status = main(list(arguments))
    if status:
        sys.exit(status)


@dataclass
class Group:
    """Processes 0 to N - 1 of one command."""

    processes: list[BaseProcess]
    logs: list[Path]
    statuses: list[int] = field(default_factory=list)

    def kill(self, index: int) -> None:
        """kill -9 for one of them."""
        pid = self.processes[index].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def wait(self, seconds: float = 300) -> list[int]:
        """Their exit statuses, -9 for a killed one."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        assert None not in codes, f"still running after {seconds} s: {codes}; {self.output()}"
        return [code for code in codes if code is not None]

    def output(self, index: int | None = None) -> str:
        """What one or all of them printed."""
        chosen = self.logs if index is None else [self.logs[index]]
        return "".join(log.read_text() for log in chosen if log.exists())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to come true while all of them are alive."""
        while not condition():
            codes = [process.exitcode for process in self.processes]
            assert codes == [None] * len(codes), f"ended too early: {codes}; {self.output()}"
            time.sleep(0.001)


Launch = Callable[..., Group]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start `flowgression ARGUMENTS` as `count` processes that know each other the way torchrun's do."""
    started: list[Group] = []

    def start(arguments: Sequence[object], count: int = 2, **environment: str) -> Group:
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            port = opened.getsockname()[1]
        group = Group([], [])
        for rank in range(count):
            log = tmp_path / f"log-{len(started)}-{rank}.txt"
            here = {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
            here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **environment}
            process = CONTEXT.Process(target=run_command, args=([str(each) for each in arguments], here, log))
            process.start()
            group.processes.append(process)
            group.logs.append(log)
        started.append(group)
        return group

    yield start
    for group in started:
        for process in group.processes:
            if process.is_alive():
                process.kill()
            process.join()
