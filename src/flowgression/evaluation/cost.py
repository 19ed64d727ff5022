"""What sampling costs: time, NFE, FLOPs, memory.

Letters: B images of a batch.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from flowgression import flops
from flowgression.evaluation.hardware import processor_name
from flowgression.registry import family_of


@dataclass(frozen=True)
class Cost:
    """What sampling a number of images took.

    Attributes:
        images: how many were made.
        seconds: wall-clock time.
        images_per_second: throughput.
        network_calls: NFE, calls of the network for one batch; of FlowAR the calls of its flow head. Guidance doubles
            the rows of a call, not the calls.
        flops_per_image: as `flowgression.flops` counts them.
        flop_counter: version of that counter.
        peak_memory_mib: on an accelerator the most memory allocated; on the CPU the most that the process ever held.
        hardware: where it was measured.
        num_threads: CPU threads of torch.
    """

    images: int
    seconds: float
    images_per_second: float
    network_calls: int
    flops_per_image: float
    flop_counter: int
    peak_memory_mib: float | None
    hardware: str
    num_threads: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class CostMeter:
    """Context manager around the sampling; `cost` gives the result afterwards.

    One small batch is made before the clock starts, to count its FLOPs and calls and to warm up.
    """

    def __init__(self, pipe: Any, call: Mapping[str, Any]) -> None:
        self._device = torch.device(pipe.device)
        self.calls, self.flops_per_image = count_work(pipe, call)

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds = time.perf_counter() - self._start

    def cost(self, images: int) -> Cost:
        """The cost of the `images` that were made inside the context."""
        return Cost(
            images=images,
            seconds=self.seconds,
            images_per_second=images / self.seconds,
            network_calls=self.calls,
            flops_per_image=self.flops_per_image,
            flop_counter=flops.VERSION,
            peak_memory_mib=peak_memory_mib(self._device),
            hardware=processor_name(self._device),
            num_threads=torch.get_num_threads(),
        )


def count_work(pipe: Any, call: Mapping[str, Any], batch_size: int = 2) -> tuple[int, float]:
    """NFE for one batch and FLOPs for one image, by making `batch_size` images."""
    network = pipe.transformer.get_submodule(family_of(pipe.transformer).nfe_module)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = network.register_forward_hook(count)
    pipe.set_progress_bar_config(disable=True)
    try:
        with flops.flop_counter() as counter:
            generator = torch.Generator().manual_seed(0)
            pipe(class_labels=[0] * batch_size, generator=generator, output_type="np", **call)
    finally:
        hook.remove()
    return calls, counter.get_total_flops() / batch_size


def peak_memory_mib(device: torch.device) -> float | None:
    """Memory in MiB, as `Cost` describes it; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
