"""The parts of a run and one step of it.

Letters: P processes, S images in a sequence.
"""

import math
import os
import platform
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from flowgression.data import make_loader, make_sampler, open_dataset
from flowgression.errors import InputError
from flowgression.families import find_family
from flowgression.models.autoencoder.loading import load_vae
from flowgression.models.registry import build_model
from flowgression.training.checkpoint import CheckpointTensors, collect_tensors
from flowgression.training.config import TrainConfig, flat_config
from flowgression.training.ema import Ema
from flowgression.training.errors import AloneError, BatchError, NonFiniteError, RunError, reader_message
from flowgression.training.objectives import TrainingModule
from flowgression.training.optimizer import clip_gradients, learning_rate_factor, make_optimizer, set_learning_rate
from flowgression.training.pretrained import load_pretrained, pretrained_args
from flowgression.training.processes import from_main, keep_process_group
from flowgression.training.randomness import StepRandomness, derived_seed
from flowgression.training.sharding import blocks_of, shard_module, whole_model, without_gradient_sync


class Trainer:
    """Model, average, optimiser and data of a run; `step` does one optimisation step.

    Attributes:
        accelerator: Device, precision and processes.
        dataset: The images.
        vae: What decodes the latents of a cache; None for images.
        model: The network, as it is trained.
        ema: The moving average of its weights.
        optimizer: AdamW.
        updating: Whether the step that was begun last is not yet counted, so that the state must not be saved.
    """

    def __init__(self, config: TrainConfig, checkpoint: Path | None = None) -> None:
        self.config = config
        self._resumed_from = checkpoint
        self.updating = False
        self.accelerator = start_accelerator(config)
        self.device = self.accelerator.device
        keep_process_group()
        self.sequences = sequences_per_process(config, self.accelerator.num_processes)
        self.dataset = open_dataset(config.data)
        folder = self.dataset.autoencoder_folder
        self.vae: Any = None if folder is None else load_vae(str(folder)).eval().requires_grad_(False)
        torch.manual_seed(derived_seed(config.seed))
        self.model = build_model(config.model.family, config.model.preset, **self._model_args()).to(self.device)
        if checkpoint is None:
            load_pretrained(self.model, config.model)
        self.ema = Ema(self.model, config.ema)
        self.sharded = config.parallelism == "fsdp2" and self.accelerator.num_processes > 1
        if config.activation_checkpointing:
            self.model.enable_gradient_checkpointing()
        if config.compile:
            for part in blocks_of(self.model) if self.sharded else [self.model]:
                part.compile()
        self.module = self._prepare(
            TrainingModule(self.model, find_family(config.model.family).objective_function).train()
        )
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # Processes that end together wait for each other: one that hangs up first may leave another one waiting. Who
        # waits may see the others hang up; all is done by then.
        if kind is None or (issubclass(kind, InputError | RunError) and not issubclass(kind, AloneError)):
            with suppress(RuntimeError):
                self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def _prepare(self, module: TrainingModule) -> Any:
        """`module`, shared with the other processes as the configuration says."""
        accelerator = self.accelerator
        if not self.sharded:
            return accelerator.prepare(module)
        shard_module(module, self.device.type, accelerator.num_processes, bf16=self.config.precision == "bf16")
        self.ema.follow(self.model)
        return module

    def batches(self, start: int) -> Iterator[dict[str, Tensor]]:
        """Endless batches on the device, from the one of step `start` on.

        Raises:
            BatchError: an image cannot be used.
        """
        sampler = make_sampler(
            self.dataset,
            self.sequences,
            self.config.sequence_length if self.config.sequence_length > 1 else None,
            self.config.seed,
            process_index=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            flip=self.config.data.flip,
            start_batch=start,
        )
        batches = iter(make_loader(self.dataset, sampler, self.config.data.num_workers))
        while True:
            try:
                batch = next(batches)
            except InputError as error:
                raise BatchError(reader_message(error)) from error
            yield {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def step(self, step: int, batch: dict[str, Tensor], *, stop: bool = False) -> tuple[dict[str, float], bool]:
        """One optimisation step, when `step` steps have been done.

        Args:
            stop: Whether this process was asked to stop.

        Returns:
            The metrics, averaged over all processes, and whether any of them was asked to stop.

        Raises:
            NonFiniteError: loss or gradient is not finite; weights, average and optimiser are as before.
        """
        config = self.config
        lr = config.optimizer.lr * learning_rate_factor(step, config.max_steps, config.schedule)
        set_learning_rate(self.optimizer, lr)
        tensors = self._backward(step, batch)
        tensors |= {
            "grad_norm": clip_gradients(self._parameters, config.optimizer),
            "stop": torch.full((), float(stop), device=self.device),
        }
        metrics = self._to_numbers(tensors)
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(
                f"step {step + 1}: loss {metrics['loss']}, norm of the gradient {metrics['grad_norm']}"
            )
        self.updating = True
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(step)
        stopped = metrics.pop("stop") > 0
        return {**metrics, "lr": lr}, stopped

    def _backward(self, step: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of the mean loss over the whole step's batch, part by part. Returns loss and metrics of ours."""
        parts, accelerator = self.config.gradient_accumulation, self.accelerator
        total: dict[str, Tensor] = {}
        for index, (images, labels) in enumerate(
            zip(batch["images"].chunk(parts), batch["class_labels"].chunk(parts), strict=True)
        ):
            part, num_parts = accelerator.process_index * parts + index, accelerator.num_processes * parts
            torch.manual_seed(derived_seed(self.config.seed, step, part))  # for dropout layers
            random = StepRandomness(self.config.seed, step, self.device, part, num_parts)
            with nullcontext() if index == parts - 1 else without_gradient_sync(self.module):
                with accelerator.autocast():
                    output = self.module(images, labels, random)
                loss = output.loss / parts
                loss.backward()
            values = {"loss": loss, **{name: value / parts for name, value in output.metrics.items()}}
            total = {name: value.detach() + total.get(name, 0.0) for name, value in values.items()}
        return total

    def from_main(self, value: Any) -> Any:
        """What the main process passes for `value`, on every process; all have to call it."""
        return from_main(value, self.device)

    def on_main(self, check: Callable[[], None]) -> None:
        """Let the main process check something; if it finds an InputError, all processes raise it."""
        problem = None
        if self.accelerator.is_main_process:
            try:
                check()
            except InputError as error:
                problem = str(error)
        problem = self.from_main(problem)
        if problem:
            raise InputError(problem)

    def tensors(self) -> CheckpointTensors:
        """What a checkpoint holds; every process has to call it, and only the main one gets anything."""
        return collect_tensors(self.model, self.ema.model, self.optimizer, keep=self.accelerator.is_main_process)

    def averaged_model(self) -> Any:
        """The whole network with averaged weights; every process has to call it, the main one is sure to get it."""
        return whole_model(self.ema.model, keep=self.accelerator.is_main_process)

    def parameter_bytes(self) -> int:
        """Bytes of the network's weights."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def start_tracker(self, step: int) -> None:
        """Begin to record metrics with the tracker, if there is one; TensorBoard drops entries after `step`."""
        if self.config.tracker == "none":
            return
        values = {name: str(value) for name, value in flat_config(self.config).items()}
        # TensorBoard's files go to <out>/tensorboard; W&B names the project and, by the folder, the run.
        project = {"tensorboard": "tensorboard", "wandb": "flowgression"}[self.config.tracker]
        options = {"tensorboard": {"purge_step": step + 1}, "wandb": {"name": self.config.out, "dir": self.config.out}}
        self.accelerator.init_trackers(project, config=values, init_kwargs=options)

    def data_summary(self) -> dict[str, Any]:
        """What identifies the data set: another one would not continue the same run."""
        return {
            "num_images": len(self.dataset.labels),
            "class_names": list(self.dataset.class_names),
            "labels_crc32": zlib.crc32(self.dataset.labels.tobytes()),
            **self.dataset.summary(),
        }

    def environment(self) -> dict[str, Any]:
        """What the last bits of the results may depend on."""
        return {
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": self.device.type,
            "num_threads": torch.get_num_threads(),
            "num_processes": self.accelerator.num_processes,
        }

    def _model_args(self) -> dict[str, Any]:
        """The model's arguments, completed by and checked against the data."""
        args = pretrained_args(self.config.model, self._resumed_from)
        facts = {
            "sample_size": self.dataset.image_size,
            "in_channels": self.dataset.channels,
            "num_classes": self.dataset.num_classes,
        }
        for name, value in facts.items():
            if args.setdefault(name, value) != value:
                raise InputError(
                    f"model.args.{name}={args[name]!r} does not fit {self.dataset.title}, which have {value!r}; "
                    "leave it out to take it from the data"
                )
        return args

    def _to_numbers(self, tensors: dict[str, Tensor]) -> dict[str, float]:
        # One transfer a step, which is also where the host waits for the device.
        stacked = torch.stack([value.detach().float().to(self.device) for value in tensors.values()])
        averaged = self.accelerator.reduce(stacked, "mean")
        return dict(zip(tensors, averaged.tolist(), strict=True))


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
