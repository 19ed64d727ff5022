"""What a training run is made of, checked as a whole; its parts are in `settings.py`. No heavy imports."""

import math
import os
from dataclasses import dataclass, field
from typing import Literal

from flowgression.data.config import DataConfig
from flowgression.errors import InputError
from flowgression.registry import FAMILIES, find_family
from flowgression.training.settings import (
    EmaConfig,
    LoraConfig,
    MeanFlowConfig,
    ModelConfig,
    OptimizerConfig,
    PreviewConfig,
    ScheduleConfig,
    SequenceConfig,
    TimesConfig,
    require,
)
from flowgression.typed import check_fields

PATH_NAMES = ("linear", "gvp", "vp")  # of flow.paths, which loads torch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        model: The network.
        lora: Low-rank adapters for fine-tuning model.pretrained.
        data: The images.
        sequence_length: Images of one class in a training sequence; 1 for models of single images. 0 takes the
            family's: 5 for arflow, 1 for models that read single images.
        sequence: What its images are, and the order of their noise.
        path: The path between noise and data: linear, gvp or vp. null takes that of model.pretrained or the family's.
        objective: velocity, or meanflow: the velocity averaged over intervals, for images in one or two calls.
        meanflow: What is averaged.
        batch_size: Images in one optimisation step, over all processes; a multiple of sequence_length. Two runs
            with equal batch_size and max_steps have seen equally many images, whatever their sequences.
        max_steps: Optimisation steps.
        minutes: Time of the whole run instead of max_steps, which then counts no more: as many steps as fit into it,
            with the learning rate over the time. Such a run resumes, but not to the same bits.
        clock: By which minutes are counted: wall, or processor, the processor time of this process.
        times: How often each time of the path is visited.
        optimizer: The optimiser and clipping.
        schedule: Learning rate over the steps.
        ema: Moving average of the weights.
        precision: fp32, or bf16 (weights stay fp32, the network computes under autocast).
        compile: Compile the network with torch.compile.
        parallelism: How several processes share the work: ddp (each holds the whole network) or fsdp2 (each holds a
            shard of the weights, their average and the optimiser state). One process holds everything either way.
        gradient_accumulation: Parts, one after the other, in which each process computes its share of the batch:
            less memory for the same step. batch_size counts the images of the whole step all the same.
        activation_checkpointing: Compute the blocks' activations again in the backward pass instead of keeping
            them: less memory, about a third more work.
        head_chunks: Groups of images, one after the other, in which the flow heads of FlowAR and their loss are
            computed, and again in the backward pass: less memory, at most one more forward pass of the heads.
        device: auto (an accelerator if there is one), cpu, cuda or mps.
        num_threads: CPU threads; null leaves the choice to PyTorch. Sums depend on it in the last bit.
        seed: Decides initial weights, data order, noise, times and dropped labels.
        out: Folder of the run.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        log_every: Steps between two lines of metrics, each a mean over these steps.
        preview: Sample grids while training.
        tracker: tensorboard, wandb or none.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sequence_length: int = 0
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    path: str | None = None
    objective: Literal["velocity", "meanflow"] = "velocity"
    meanflow: MeanFlowConfig = field(default_factory=MeanFlowConfig)
    batch_size: int = 120
    max_steps: int = 10_000
    minutes: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    times: TimesConfig = field(default_factory=TimesConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    parallelism: Literal["ddp", "fsdp2"] = "ddp"
    gradient_accumulation: int = 1
    activation_checkpointing: bool = False
    head_chunks: int = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    num_threads: int | None = None
    seed: int = 0
    out: str = "runs/default"
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 50
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    tracker: Literal["tensorboard", "wandb", "none"] = "tensorboard"

    def __post_init__(self) -> None:
        check_fields(self)
        self._settle_sequence_length()
        require(self.path in (None, *PATH_NAMES), "path", self.path, f"one of {', '.join(PATH_NAMES)}, or null")
        counts = ("sequence_length", "batch_size", "gradient_accumulation", "head_chunks", "max_steps")
        for name in (*counts, "checkpoint_every", "keep_checkpoints", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "one or more")
        require(self.minutes is None or self.minutes > 0, "minutes", self.minutes, "a positive number or null")
        require(self.num_threads is None or self.num_threads >= 1, "num_threads", self.num_threads, "one or more")
        require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 2**32 - 1")
        require(bool(self.out), "out", self.out, "the name of a folder")
        object.__setattr__(self, "out", os.path.expanduser(self.out))  # no shell reads ~ in a file
        self._check_lora()
        self._check_optimizer()
        self._check_snapshots()
        shortest = self.sequence.shortest
        if shortest is not None and shortest > self.sequence_length:
            raise InputError(f"sequence.shortest={shortest} is more than sequence_length={self.sequence_length}")
        self._check_objective()
        self._check_data()
        if self.batch_size % self.sequence_length:
            near = math.ceil(self.batch_size / self.sequence_length) * self.sequence_length
            raise InputError(
                f"batch_size={self.batch_size} counts images and must be a multiple of "
                f"sequence_length={self.sequence_length}; {near} is the next one"
            )

    def _check_optimizer(self) -> None:
        if self.optimizer.name == "muon" and self.parallelism == "fsdp2":
            raise InputError(
                "optimizer.name='muon' needs whole matrices, and parallelism='fsdp2' cuts them; use parallelism='ddp'"
            )

    def _check_objective(self) -> None:
        if self.objective != "meanflow":
            require(self.meanflow == MeanFlowConfig(), "meanflow", self.meanflow, "nothing without objective=meanflow")
            return
        if find_family(self.model.family).average_objective is None:
            known = ", ".join(name for name, family in FAMILIES.items() if family.average_objective is not None)
            raise InputError(
                f"objective='meanflow': models of the family {self.model.family} do not learn average velocities; "
                f"families that do: {known}"
            )
        require(self.path != "vp", "path", self.path, "linear or gvp with objective=meanflow")
        if self.meanflow.teacher and self.model.pretrained is None:
            raise InputError("meanflow.teacher=True takes its velocities from model.pretrained: name it there")
        require(self.sequence.clean == 0, "sequence.clean", self.sequence.clean, "0 with objective=meanflow")
        plain = {"parallelism": "ddp", "compile": False, "activation_checkpointing": False, "precision": "fp32"}
        plain["head_chunks"] = 1
        for name, value in plain.items():
            if getattr(self, name) != value:
                raise InputError(
                    f"objective='meanflow' and {name}={getattr(self, name)!r} cannot be combined: its derivative in "
                    f"forward mode is made for {name}={value!r}"
                )

    def _check_data(self) -> None:
        told = {"objective": self.objective != "velocity", "lora.rank": bool(self.lora.rank)}
        for name in [name for name, given in told.items() if given and self.data.augment]:
            raise InputError(f"data.augment and {name} cannot be combined: the network could not be told what was done")
        if self.data.validation and self.objective != "velocity":
            raise InputError(
                f"data.validation and objective={self.objective!r} cannot be combined: its loss is about 1 throughout"
            )

    def _check_snapshots(self) -> None:
        if self.ema.snapshot_every and (self.lora.rank or self.parallelism == "fsdp2"):
            other = "lora.rank" if self.lora.rank else "parallelism='fsdp2'"
            raise InputError(f"ema.snapshot_every and {other} cannot be combined: its averages are of whole weights")

    def _check_lora(self) -> None:
        if self.lora.rank and self.model.pretrained is None:
            raise InputError(f"lora.rank={self.lora.rank} adapts a trained model: name it with model.pretrained")
        if self.lora.rank and self.parallelism == "fsdp2":
            raise InputError("lora.rank and parallelism='fsdp2' cannot be combined; use parallelism='ddp'")

    def _settle_sequence_length(self) -> None:
        family = find_family(self.model.family)
        if self.sequence_length == 0:
            object.__setattr__(self, "sequence_length", family.sequence_length or 1)
        if not family.reads_sequences and self.sequence != SequenceConfig():
            raise InputError(
                f"sequence: models of the family {family.name} are trained on single images, which have neither order "
                "nor company; leave it out"
            )
        if not family.reads_sequences and self.sequence_length != 1:
            raise InputError(
                f"sequence_length={self.sequence_length}: models of the family {family.name} are trained on single "
                "images; leave it out, or set it to 1"
            )
