"""The device and the processes of a run, and each process's share of the batch."""

import os
from importlib.util import find_spec

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from flowgression.errors import InputError
from flowgression.training.config import TrainConfig


def start_accelerator(config: TrainConfig) -> Accelerator:
    """The Accelerator of a run, by which the processes know each other.

    Raises:
        InputError: the device or the tracker is not there, or the launcher asks for an engine of its own.
    """
    if config.tracker == "wandb" and find_spec("wandb") is None:
        raise InputError(
            "tracker='wandb' needs the package wandb: pip install 'flowgression[wandb]', or use tensorboard"
        )
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(config.device, True):
        raise InputError(f"device={config.device!r} is not available on this machine; use auto or cpu")
    for engine in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true":
            raise InputError(
                f"accelerate launch was told to use {engine}; launch without it and set parallelism='fsdp2' to shard"
            )
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    # Accelerate remembers precision and device for the life of the process; each run here has its own.
    if AcceleratorState._shared_state and not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        # Several processes without an accelerator meet over gloo, which has to be asked for.
        cpu=config.device == "cpu" or (config.device == "auto" and not any(there.values())),
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=config.out,
    )


def sequences_per_process(config: TrainConfig, num_processes: int) -> int:
    """Sequences in the batch of one process.

    Raises:
        InputError: the batch cannot be shared equally.
    """
    parts = num_processes * config.gradient_accumulation
    sequences, rest = divmod(config.batch_size // config.sequence_length, parts)
    if rest or not sequences:
        shared = f"{num_processes} processes"
        if config.gradient_accumulation > 1:
            shared += f" in gradient_accumulation={config.gradient_accumulation} parts each"
        raise InputError(
            f"batch_size={config.batch_size} in sequences of {config.sequence_length} cannot be shared by "
            f"{shared}; use a multiple of {config.sequence_length * parts}"
        )
    return sequences * config.gradient_accumulation
