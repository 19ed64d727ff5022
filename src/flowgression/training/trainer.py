"""The parts that training works with: network, EMA weights, optimiser, data, device. loop.py puts them to work."""

import platform
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import torch
from torch import Tensor

from flowgression.autoencoders.loading import load_vae
from flowgression.data import make_loader, make_sampler, open_dataset
from flowgression.data.augment import AUGMENT_DIM
from flowgression.data.dataset import LabeledImages
from flowgression.data.held_out import hold_out
from flowgression.errors import InputError
from flowgression.layers.lora import add_lora, merged_model
from flowgression.registry import build_model
from flowgression.sampling.request import predicts_averages
from flowgression.training.accelerator import sequences_per_process, start_accelerator
from flowgression.training.checkpoint import CheckpointTensors, collect_tensors, read_state
from flowgression.training.config import TrainConfig
from flowgression.training.ema import Ema
from flowgression.training.errors import AloneError, BatchError, RunError, reader_message
from flowgression.training.objectives import Objective, TrainingModule, objective_of
from flowgression.training.optimizer import make_optimizer, settle_optimizer
from flowgression.training.post_hoc_ema import PostHocEma
from flowgression.training.pretrained import load_pretrained, own_args, pretrained_pipeline, run_args, saved_args
from flowgression.training.processes import from_main, keep_process_group
from flowgression.training.randomness import derived_seed
from flowgression.training.recompute import set_recomputation
from flowgression.training.settings import OptimizerConfig
from flowgression.training.sharding import blocks_of, require_sharding, shard_module, whole_model, whole_tensors


class Trainer:
    """Network, EMA weights, optimiser and data of a run, on this process's device.

    Args:
        config: the run.
        checkpoint: the one that the run resumes from, if it does; its tensors are loaded by `resume.restore`.

    Attributes:
        accelerator: device, precision and processes.
        dataset: the images that are trained on. held_out: those that never are; None: all are.
        vae: what decodes the latents of a cache; None for images.
        sequences: sequences in the batch of this process.
        model: the network, as it is trained.
        module: the same with its objective, shared with the other processes; a step computes through it.
        parameters: those that are trained.
        objective: what the model is trained on.
        ema: the exponential moving average of the weights.
        best: on the main process, the average with the lowest loss on held-out images so far; {} before the first.
        tracks: those of post-hoc EMA, or None.
        optimizer: AdamW.
        notes: lines about the start, to be shown.
        updating: whether the step that was begun last is not yet counted, so that the state must not be saved.

    Raises:
        InputError: the device or the tracker is missing, the batch cannot be shared, or data and model do not fit.
    """

    def __init__(self, config: TrainConfig, checkpoint: Path | None = None) -> None:
        self.config = config
        self._resumed_from = checkpoint
        self.updating = False
        self.accelerator = start_accelerator(config)
        self.device = self.accelerator.device
        keep_process_group()
        self.sharded = config.parallelism == "fsdp2" and self.accelerator.num_processes > 1
        if self.sharded:
            require_sharding(self.device.type)
        self.sequences = sequences_per_process(config, self.accelerator.num_processes)
        self.dataset: LabeledImages = open_dataset(config.data)
        self.held_out: LabeledImages | None = None
        if config.data.validation:
            least, share = config.sequence_length, config.data.validation
            self.dataset, self.held_out = hold_out(self.dataset, share, config.seed, least=least)
        folder = self.dataset.autoencoder_folder
        self.vae: Any = None if folder is None else load_vae(str(folder)).eval().requires_grad_(False)
        torch.manual_seed(derived_seed(config.seed))
        self.notes = [self.dataset.describe()]
        if self.held_out is not None:
            self.notes.append(f"Held out, and never trained on: {len(self.held_out)} images.")
        self.model, self.objective = self._make_model(checkpoint)
        self.ema = Ema(self.model, config.ema)
        self.tracks = PostHocEma(self.model) if config.ema.snapshot_every else None
        set_recomputation(self.model, config)
        if config.compile:
            for part in blocks_of(self.model) if self.sharded else [self.model]:
                part.compile()
        self.best: dict[str, Tensor] = {}
        self.module = self._prepare(TrainingModule(self.model, self.objective, config.data.augment).train())
        self.config = replace(config, optimizer=self._settled_optimizer())
        self.optimizer = make_optimizer(self.model, self.config.optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def _make_model(self, checkpoint: Path | None) -> tuple[Any, Objective]:
        """The network on its device, with the weights that it starts from, and what it is trained on."""
        config = self.config
        taught = config.meanflow.teacher
        source = pretrained_pipeline(config.model) if checkpoint is None or taught else None
        args = self._model_args({} if source is None else own_args(source.transformer.config))
        model = build_model(config.model.family, config.model.preset, **args).to(self.device)
        if source is not None and checkpoint is None:
            self.notes += load_pretrained(model, source, config.model, self.dataset.classes)
        teacher = self._teacher(args, source) if taught else None
        if rank := config.lora.rank:
            add_lora(model, rank, rank if config.lora.alpha is None else config.lora.alpha)
        return model, objective_of(config, teacher)

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
            contents=self.config.sequence.contents if self.config.sequence_length > 1 else "class",
            shortest=self.config.sequence.shortest if self.config.sequence_length > 1 else None,
        )
        batches = iter(make_loader(self.dataset, sampler, self.config.data.num_workers, device=self.device))
        while True:
            try:
                batch = next(batches)
            except InputError as error:
                raise BatchError(reader_message(error)) from error
            yield batch

    def apply_gradients(self, step: int) -> None:
        """Change weights, averages and the optimizer's state, step counted from 0. Until `step_is_counted` the state
        is of no step, and must not be saved.
        """
        self.updating = True
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(step)
        if self.tracks is not None:
            self.tracks.update(step)

    def step_is_counted(self) -> None:
        """The step's number is part of the state now."""
        self.updating = False

    def from_main(self, value: Any) -> Any:
        """What the main process passes for `value`, on every process; all have to call it."""
        return from_main(value, self.device)

    def on_main(
        self,
        act: Callable[[], object],
        *,
        caught: type[Exception] | tuple[type[Exception], ...] = InputError,
        raised: type[Exception] = InputError,
        words: Callable[[Exception], str] = str,
    ) -> None:
        """Let the main process act while the others wait; what it cannot do, all processes raise, in `words`."""
        problem = None
        if self.accelerator.is_main_process:
            try:
                act()
            except caught as error:
                problem = words(error)
        problem = self.from_main(problem)
        if problem:
            raise raised(problem)

    def tensors(self) -> CheckpointTensors:
        """What a checkpoint holds; every process has to call it, and only the main one gets anything."""
        keep = self.accelerator.is_main_process
        tensors = collect_tensors(self.model, self.ema.model, self.optimizer, keep=keep)
        tensors = tensors._replace(best=self.best)
        return tensors if self.tracks is None or not keep else tensors._replace(tracks=self.tracks.tensors())

    def keep_best(self) -> None:
        """Keep the present EMA weights as the best ones; every process has to call it."""
        keep = self.accelerator.is_main_process
        tensors = whole_tensors(self.ema.model.state_dict(), keep=keep)
        self.best = {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}

    def ema_model(self) -> Any:
        """The whole network with the EMA weights, adapters merged; every process has to call it, the main one is sure
        to get it.
        """
        model = whole_model(self.ema.model, keep=self.accelerator.is_main_process)
        return None if model is None else merged_model(model)

    def parameter_bytes(self) -> int:
        """Bytes of the network's weights."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def data_summary(self) -> dict[str, Any]:
        """What identifies the data set: another one would not continue the same run."""
        return {
            "num_images": len(self.dataset.labels),
            "class_names": self.dataset.classes.to_list(),
            "labels_crc32": zlib.crc32(self.dataset.labels.tobytes()),
            "groups_crc32": None if self.dataset.groups is None else zlib.crc32(self.dataset.groups.tobytes()),
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

    def _teacher(self, args: dict[str, Any], source: Any) -> Any:
        """The frozen model of model.pretrained, with the labels of the data."""
        velocities = {} if predicts_averages(source.transformer) else {"average_velocity": False}
        teacher = build_model(self.config.model.family, self.config.model.preset, **(args | velocities))
        load_pretrained(teacher, source, self.config.model, self.dataset.classes)
        return teacher.to(self.device).eval().requires_grad_(False)

    def _settled_optimizer(self) -> OptimizerConfig:
        """The optimiser's configuration without "auto": as the run began, or as the main process now measures it."""
        config = self.config.optimizer
        if config.muon_dtype == "auto" and self._resumed_from is not None:
            saved = read_state(self._resumed_from).config["optimizer"]
            config = replace(config, muon_dtype=saved.get("muon_dtype", "auto"))
        return replace(config, muon_dtype=self.from_main(settle_optimizer(self.model, config).muon_dtype))

    def _model_args(self, known: dict[str, Any]) -> dict[str, Any]:
        """The model's arguments, `known` ones among them, completed by and checked against the data."""
        if self._resumed_from is not None and self.config.model.pretrained is not None:
            known = saved_args(self._resumed_from)
        args = run_args(self.config, known)
        if self.config.model.pretrained and "num_classes" not in self.config.model.args:
            args["num_classes"] = self.dataset.num_classes  # rows are matched by name
        facts = {
            "sample_size": self.dataset.image_size,
            "in_channels": self.dataset.channels,
            "num_classes": self.dataset.num_classes,
        }
        if self.config.data.augment:
            if self.dataset.autoencoder_folder is not None:
                raise InputError("data.augment changes images, and a latent cache holds none; set it to 0")
            args["augment_dim"] = AUGMENT_DIM
        for name, value in facts.items():
            if args.setdefault(name, value) != value:
                raise InputError(
                    f"model.args.{name}={args[name]!r} does not fit {self.dataset.title}, which have {value!r}; "
                    "leave it out to take it from the data"
                )
        return args
