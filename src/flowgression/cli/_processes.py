"""The processes that torchrun or accelerate launch started, as their environment tells; one alone without them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flowgression.errors import InputError

WAIT_DAYS = 30


@dataclass(frozen=True)
class Processes:
    """Which process of how many this is.

    Attributes:
        index: Of this process, from 0.
        count: Of all processes, on all machines.
        local_index: Of this process on its machine, from 0; it uses the GPU of this number.
        restarts: How often the launcher has started all of them anew.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    restarts: int = 0

    @classmethod
    def from_environment(cls) -> "Processes":
        """Read RANK, WORLD_SIZE, LOCAL_RANK and TORCHELASTIC_RESTART_COUNT.

        Raises:
            InputError: they do not fit each other.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
        texts = [os.environ.get(name, str(default)) for name, default in zip(names, (0, 1, 0, 0), strict=True)]
        if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
            given = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            raise InputError(f"the environment describes no process ({given}); start with torchrun, or unset these.")
        return cls(*map(int, texts))

    @property
    def is_main(self) -> bool:
        """Whether this is the first of all processes, which speaks for them."""
        return self.index == 0

    @property
    def is_local_main(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.local_index == 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Within it the processes know each other, to wait and to pass on small values. All of them have to enter it.

        They also leave it together: at its end, or with an InputError that all of them raise.
        """
        if self.count == 1:
            yield
            return
        import torch.distributed as dist

        # gloo, because it needs no GPU; independent work may leave the fastest waiting long for the slowest.
        dist.init_process_group("gloo", timeout=timedelta(days=WAIT_DAYS))
        try:
            yield
        except InputError:
            self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        import torch.distributed as dist

        # One that hangs up first may leave another one waiting; who waits may see the others hang up.
        with suppress(RuntimeError):
            dist.barrier()
        dist.destroy_process_group()

    def from_main(self, value: Any = None) -> Any:
        """What the main process passes for `value`, on every process; all of them have to call it."""
        if self.count == 1:
            return value
        from flowgression.training.processes import from_main

        return from_main(value)

    def wait(self) -> None:
        """Wait until all processes have come here; RuntimeError if one is gone."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()
