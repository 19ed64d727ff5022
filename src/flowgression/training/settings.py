"""The parts of a training run's configuration: one documented, checked dataclass per subject. No heavy imports.

Every value is checked when its dataclass is made; the error names the field, what it expects and what it got.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from flowgression.errors import InputError
from flowgression.registry import FAMILIES, find_family
from flowgression.typed import check_fields


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network is trained.

    Attributes:
        family: Kind of model, such as arflow, sit or flowar; `flowgression info` lists them.
        preset: Name of a published size, such as S/2; null when `args` says it all.
        args: Arguments of the model's constructor, on top of the preset. The image size, the channels and the
            number of classes are taken from the data where they are not given.
        pretrained: A model to start from (a built-in name, a folder, or owner/name on the hub), with its arguments
            and its EMA weights; `args` may change what leaves their shapes as they are. null starts anew.
    """

    family: str = next(iter(FAMILIES))
    preset: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "model.")
        find_family(self.family, "model.family=")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Fine-tuning with low-rank adapters (LoRA, arXiv 2106.09685): the model itself is frozen.

    Attributes:
        rank: r of the adapters of all linear layers in the model's blocks; 0 trains the whole model.
        alpha: Adapters count alpha / rank; null takes the rank, so that they count 1.
    """

    rank: int = 0
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "lora.")
        require(self.rank >= 0, "lora.rank", self.rank, "zero (no adapters) or more")
        require(self.alpha is None or self.alpha > 0, "lora.alpha", self.alpha, "a positive number or null")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and gradient clipping.

    Attributes:
        name: adamw, or muon: matrices of the blocks take orthogonalised steps of the size that AdamW's have, so that
            lr and weight_decay mean the same; everything else takes AdamW's.
        muon_dtype: In what muon makes steps orthogonal. auto takes bfloat16 where a short measurement at the start of
            the run finds its products at least 1.5 times as fast as float32's; the run's configuration then has what
            was taken, and a resumed run takes the same.
        lr: Learning rate after the warm-up.
        beta1: Decay of the running mean of the gradient.
        beta2: Decay of the running mean of the squared gradient.
        eps: Added to the denominator.
        weight_decay: Decoupled weight decay, on parameters with two or more dimensions only.
        clip_norm: Largest norm of the whole gradient; null leaves it as it is.
        clip_value: Largest absolute value of one gradient entry, applied after clip_norm; null leaves it.
    """

    name: Literal["adamw", "muon"] = "adamw"
    muon_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.02
    clip_norm: float | None = None
    clip_value: float | None = 3.0

    def __post_init__(self) -> None:
        check_fields(self, "optimizer.")
        require(self.lr > 0, "optimizer.lr", self.lr, "a positive number")
        require(0 <= self.beta1 < 1, "optimizer.beta1", self.beta1, "a number in [0, 1)")
        require(0 <= self.beta2 < 1, "optimizer.beta2", self.beta2, "a number in [0, 1)")
        require(self.eps > 0, "optimizer.eps", self.eps, "a positive number")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "zero or more")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            require(value is None or value > 0, f"optimizer.{name}", value, "a positive number or null")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the steps, as a factor of optimizer.lr.

    Attributes:
        name: constant, or cosine: half a cosine from 1 to `final_factor` at max_steps.
        warmup_steps: Steps over which the factor first rises from 0 to 1 in a straight line.
        final_factor: Where the cosine ends.
    """

    name: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "schedule.")
        require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "zero or more")
        require(0 <= self.final_factor <= 1, "schedule.final_factor", self.final_factor, "a number in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TimesConfig:
    """How often training visits each time t of the path, from noise (0) to data (1).

    Attributes:
        name: uniform, or logit-normal: logit(t) is normal (Stable Diffusion 3, arXiv 2403.03206, section 3.1), so that
            times in the middle come more often than the ends.
        mean: Of logit(t) under logit-normal; above 0 nearer to the data.
        std: Standard deviation of logit(t) under logit-normal.
    """

    name: Literal["uniform", "logit-normal"] = "uniform"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "times.")
        require(math.isfinite(self.mean), "times.mean", self.mean, "a finite number")
        require(0 < self.std < math.inf, "times.std", self.std, "a positive number")


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig:
    """Average velocities, which one call follows over any interval of time (MeanFlow, arXiv 2505.13447 and 2512.02012).

    Attributes:
        guidance_scale: Classifier-free guidance that the averages hold already, so that sampling needs none; 1 is none.
        interval_share: Share of the batch that learns averages over intervals; the rest learns the velocity.
        end_share: Share of these intervals that end at the data, as one call from noise needs; the others end at a
            time of their own.
        teacher: Take the guided velocities of model.pretrained instead of those of pairs of noise and data. They have
            no noise, so that far fewer steps are needed; what the teacher gets wrong is learned, too.
    """

    guidance_scale: float = 1.0
    interval_share: float = 0.5
    end_share: float = 0.0
    teacher: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "meanflow.")
        require(1 <= self.guidance_scale < math.inf, "meanflow.guidance_scale", self.guidance_scale, "1 or more")
        require(0 < self.interval_share <= 1, "meanflow.interval_share", self.interval_share, "a number in (0, 1]")
        require(0 <= self.end_share <= 1, "meanflow.end_share", self.end_share, "a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """What the images of a training sequence are. The defaults are ARFlow's; the others are there to compare with them.

    Attributes:
        noise: Order of noise along a sequence: falling (rising t, which is the order of sampling), rising, random, or
            equal (one level for all images of a sequence). The levels themselves are distributed as `times` says.
        contents: Of what the images are: class (different images of one class), group (different images of one
            group, such as a writer or a font, each with a label of its own; see data.group_by), mixed (of any classes,
            each image with a label of its own), or image (one image at sequence_length levels of noise).
        clean: Mean share of a sequence's images that have no noise and no loss and come first, as examples do in
            sampling. How many they are is drawn for each sequence, every number from none to twice the mean being
            equally likely; one image at least has noise.
        memory: What an image with noise reads: all images before it, as in sampling with history "all", or the clean
            ones alone, as in sampling from examples with history "none". With "clean" one number of clean images is
            drawn for all sequences of a step.
        shortest: Sequences of a batch have a length from this to sequence_length, drawn for each batch; batch_size
            counts the longest. null is sequence_length.
    """

    noise: Literal["falling", "rising", "random", "equal"] = "falling"
    contents: Literal["class", "group", "mixed", "image"] = "class"
    clean: float = 0.0
    memory: Literal["all", "clean"] = "all"
    shortest: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "sequence.")
        require(0 <= self.clean < 1, "sequence.clean", self.clean, "a share from 0 to less than 1")
        require(
            self.memory == "all" or self.clean > 0,
            "sequence.memory",
            self.memory,
            "'all' where sequence.clean is 0: with 'clean' nothing would be read",
        )
        require(self.shortest is None or self.shortest >= 1, "sequence.shortest", self.shortest, "one or more, or null")


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights; samples are drawn from it.

    Attributes:
        decay: Share of the old average that is kept at each step.
        warmup: Use min(decay, (1 + n) / (10 + n)) at the n-th update (n from 0), so that the random weights of
            the start are forgotten early and runs of few steps have a useful average too.
        snapshot_every: Steps between two snapshots of two further averages, from which `flowgression ema` makes one of
            any length after training (post-hoc EMA, arXiv 2312.02696); 0 keeps none.
    """

    decay: float = 0.9999
    warmup: bool = True
    snapshot_every: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "ema.")
        require(0 <= self.decay < 1, "ema.decay", self.decay, "a number in [0, 1)")
        require(self.snapshot_every >= 0, "ema.snapshot_every", self.snapshot_every, "zero (never) or more")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample grids drawn while training, with the EMA weights.

    Attributes:
        every: Steps between two grids; 0 draws none.
        num_images: Images in the grid; the classes take turns.
        num_inference_steps: Steps of the solver for an image.
        guidance_scale: Strength of classifier-free guidance; 1 is none.
        fid_images: Samples whose FID from held-out pictures (where none are held out, from training pictures) is
            measured with each grid, or with each checkpoint where there are no grids, in features that are built in; 0
            measures none. A run of given minutes puts about 5 % of its time into it.
    """

    every: int = 1000
    num_images: int = 40
    num_inference_steps: int = 25
    guidance_scale: float = 1.5
    fid_images: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "preview.")
        require(self.every >= 0, "preview.every", self.every, "zero (never) or more")
        require(self.num_images >= 1, "preview.num_images", self.num_images, "one or more")
        require(self.num_inference_steps >= 1, "preview.num_inference_steps", self.num_inference_steps, "one or more")
        require(
            self.fid_images == 0 or self.fid_images >= 2,
            "preview.fid_images",
            self.fid_images,
            "0 (none), or 2 or more",
        )


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """InputError that names a field, its value and what was expected, unless that holds."""
    if not holds:
        raise InputError(f"{name}={value!r} must be {expected}")
