"""What a run will need before it is started: memory of a process, time of a step, days and cost.

The network is run forward and backward once without numbers (fake tensors), which tells the FLOPs and the bytes that
wait for the backward pass; both grow linearly with the sequences of a batch.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flowgression.data import open_dataset
from flowgression.errors import InputError, did_you_mean
from flowgression.families import find_family
from flowgression.flops import flop_counter
from flowgression.models.registry import build_model
from flowgression.training.config import TrainConfig
from flowgression.training.flowar_losses import flowar_losses
from flowgression.training.pretrained import pretrained_args
from flowgression.training.sharding import blocks_of

WORD = 4  # bytes of a float32
FACTS = ("sample_size", "in_channels", "num_classes")


class Gpu(NamedTuple):
    """A processor: dense TFLOP/s of its data sheet in bfloat16 and float32, GiB of memory, a rent in dollars an hour.

    The rents are round figures of 2025 for rented machines; they are there to be replaced.
    """

    bf16: float
    fp32: float
    memory: float
    price: float


GPUS = {
    "a100": Gpu(312, 19.5, 80, 1.8),
    "h100": Gpu(989, 67, 80, 3.0),
    "h200": Gpu(989, 67, 141, 3.5),
    "b200": Gpu(2250, 80, 180, 5.5),
    "l40s": Gpu(362, 91.6, 48, 1.0),
    "rtx4090": Gpu(165, 82.6, 24, 0.5),
}
EFFICIENCY = 0.35  # share of the data sheet's speed; what transformers of this size reach in bf16 when compiled


class Work(NamedTuple):
    """What one forward and backward pass takes: `fixed` plus `each` times the number of sequences.

    Attributes:
        parameters: of the network.
        flops_fixed, flops_each: FLOPs, as `flowgression.flops` counts them.
        kept_fixed, kept_each: bytes of tensors that wait for the backward pass, weights excepted.
        largest_block: bytes of the weights of the largest block.
    """

    parameters: int
    flops_fixed: int
    flops_each: int
    kept_fixed: int
    kept_each: int
    largest_block: int


@dataclass(frozen=True)
class Plan:
    """The estimate.

    Attributes:
        parameters: of the network.
        memory: bytes on each process by what they hold.
        peak: bytes when they are most.
        sequences: sequences that a process computes at once.
        flops: of a step, all processes together.
        seconds: of a step.
        days, cost: of the whole run; dollars.
    """

    parameters: int
    memory: dict[str, int]
    peak: int
    sequences: int
    flops: float
    seconds: float
    days: float
    cost: float


def make_plan(
    config: TrainConfig, gpu: Gpu, num_gpus: int, efficiency: float = EFFICIENCY, work: Work | None = None
) -> Plan:
    """Estimate a run on `num_gpus` processors.

    Args:
        efficiency: share of the GPU's speed that the run reaches.
        work: what `measure(config)` gave, to compare several plans without measuring again.

    Raises:
        InputError: numbers out of range, a batch that cannot be shared, or a model that neither its arguments nor the
            data complete.
    """
    if num_gpus < 1:
        raise InputError(f"--gpus is {num_gpus}; expected 1 or more")
    if not 0 < efficiency <= 1:
        raise InputError(f"--efficiency is {efficiency}; expected a share above 0, at most 1")
    parts = num_gpus * config.gradient_accumulation
    sequences, rest = divmod(config.batch_size // config.sequence_length, parts)
    if rest or not sequences:
        raise InputError(
            f"batch_size={config.batch_size} in sequences of {config.sequence_length} cannot be shared by {num_gpus} "
            f"GPUs in {config.gradient_accumulation} parts; use a multiple of {config.sequence_length * parts}"
        )
    work = work or measure(config)
    memory = memory_of(config, work, num_gpus, sequences)
    flops = parts * (work.flops_fixed + sequences * work.flops_each)
    speed = (gpu.bf16 if config.precision == "bf16" else gpu.fp32) * 1e12 * efficiency * num_gpus
    seconds = flops / speed
    days = seconds * config.max_steps / 86400
    return Plan(
        parameters=work.parameters,
        memory=memory,
        peak=peak_of(config, memory),
        sequences=sequences,
        flops=flops,
        seconds=seconds,
        days=days,
        cost=days * 24 * num_gpus * gpu.price,
    )


def memory_of(config: TrainConfig, work: Work, num_gpus: int, sequences: int) -> dict[str, int]:
    """Bytes on each process by what they hold."""
    sharded = config.parallelism == "fsdp2" and num_gpus > 1
    weights = WORD * work.parameters // (num_gpus if sharded else 1)
    memory = {
        "weights": weights,
        "average of the weights": weights,
        "optimiser (two moments)": 2 * weights,
        "gradients": weights,
        "activations": work.kept_fixed + sequences * work.kept_each,
    }
    if sharded:
        memory["two gathered blocks"] = 2 * work.largest_block
    elif num_gpus > 1:
        memory["gradients on their way"] = weights  # the buckets of DistributedDataParallel
    return memory


def peak_of(config: TrainConfig, memory: dict[str, int]) -> int:
    """Bytes when they are most: activations go as gradients come, unless gradients of earlier parts wait already."""
    passing = memory["activations"], memory["gradients"]
    return sum(memory.values()) - sum(passing) + (sum(passing) if config.gradient_accumulation > 1 else max(passing))


def measure(config: TrainConfig) -> Work:
    """Run the network without numbers, on one sequence and on two."""
    args = model_args(config)
    one, two = (_pass(config, args, sequences) for sequences in (1, 2))
    kept_each, flops_each = two.kept - one.kept, two.flops - one.flops
    if config.activation_checkpointing:  # the block that is computed again keeps what it would have kept
        plain = [_pass(config, args, sequences, recompute=False).kept for sequences in (1, 2)]
        kept_each += (plain[1] - plain[0]) // one.blocks
    return Work(
        parameters=one.parameters,
        flops_fixed=one.flops - flops_each,
        flops_each=flops_each,
        kept_fixed=one.kept - (two.kept - one.kept),
        kept_each=kept_each,
        largest_block=WORD * one.largest_block,
    )


def model_args(config: TrainConfig) -> dict[str, Any]:
    """The model's arguments; the data are only opened for what they leave out."""
    args = pretrained_args(config.model)
    if missing := [name for name in FACTS if name not in args]:
        dataset = open_dataset(config.data)
        facts = dict(zip(FACTS, (dataset.image_size, dataset.channels, dataset.num_classes), strict=True))
        args |= {name: facts[name] for name in missing}
    return args


def find_gpu(name: str) -> Gpu:
    """A processor by name; InputError for an unknown one."""
    if name not in GPUS:
        raise InputError(f"unknown GPU {name!r}: {did_you_mean(name, GPUS)} For another, give its figures")
    return GPUS[name]


class _Pass(NamedTuple):
    parameters: int
    blocks: int
    largest_block: int
    flops: int
    kept: int


def _pass(config: TrainConfig, args: dict[str, Any], sequences: int, recompute: bool | None = None) -> _Pass:
    """One forward and backward pass of fake tensors."""
    kept: dict[int, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):  # the tables of low-rank attention are real
        model = build_model(config.model.family, config.model.preset, **args).train()
        if config.activation_checkpointing if recompute is None else recompute:
            model.enable_gradient_checkpointing()
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = tensor  # held, so that no other storage takes its place
            return tensor

        with flop_counter() as counter:
            with (
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"),
            ):
                loss = _loss(config, model, args, sequences)
            loss.backward()
        blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks_of(model)]
        return _Pass(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            blocks=max(1, len(blocks)),
            largest_block=max(blocks, default=0),
            flops=counter.get_total_flops(),
            kept=sum(tensor.untyped_storage().nbytes() for tensor in kept.values()),
        )


def _loss(config: TrainConfig, model: Any, args: dict[str, Any], sequences: int) -> Tensor:
    """The network's part of its objective. Objectives check numbers, of which fake tensors have none."""
    side = args["sample_size"]
    height, width = (side, side) if isinstance(side, int) else side
    family = find_family(config.model.family)
    lengths = (sequences, config.sequence_length) if family.reads_sequences else (sequences,)
    images = torch.empty(*lengths, args["in_channels"], height, width)
    labels = torch.zeros(sequences, dtype=torch.int64)
    if family.draws_scales:
        tokens = sum(scale**2 for scale in model.scales)
        noise = torch.empty(sequences, tokens, model.flow_head.token_channels)
        return flowar_losses(model, images, labels, torch.empty(sequences, len(model.scales)), noise)[1]
    velocity = model(images, torch.empty(lengths), labels).velocity
    return (velocity.float() - images).square().mean()
