"""What a run will need before it is started: memory of a process, time of a step, days and cost.

The objective is computed forward and backward once without numbers (fake tensors), as one process of the run would
compute it, which tells the FLOPs and the most that tensors take at one time.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from flowgression.data import open_dataset
from flowgression.data.sampler import LABELLED_EACH
from flowgression.errors import InputError, did_you_mean
from flowgression.flops import flop_counter
from flowgression.layers.lora import add_lora
from flowgression.memory import LiveTensors
from flowgression.registry import build_model
from flowgression.training.config import TrainConfig
from flowgression.training.objectives import TrainingModule, objective_of
from flowgression.training.pretrained import own_args, pretrained_pipeline, run_args
from flowgression.training.randomness import step_randomness
from flowgression.training.recompute import set_recomputation
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
    """What the passes of one process take in one step.

    Attributes:
        parameters: of the network.
        trained: those of them that are trained; with lora.rank the adapters.
        flops: as `flowgression.flops` counts them.
        activations, gradients: bytes when both together are most; the optimiser's state is not among them.
        largest_block: bytes of the weights of the largest block.
    """

    parameters: int
    trained: int
    flops: int
    activations: int
    gradients: int
    largest_block: int


@dataclass(frozen=True)
class Plan:
    """The estimate.

    Attributes:
        parameters: of the network.
        memory: bytes on each process by what they hold, at the moment when they are most.
        peak: their sum.
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


def make_plan(config: TrainConfig, gpu: Gpu, num_gpus: int, efficiency: float = EFFICIENCY) -> Plan:
    """Estimate a run on `num_gpus` processors.

    Args:
        efficiency: share of the GPU's speed that the run reaches.

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
    work = measure(config, num_gpus, sequences)
    memory = memory_of(config, work, num_gpus)
    flops = num_gpus * work.flops
    speed = (gpu.bf16 if config.precision == "bf16" else gpu.fp32) * 1e12 * efficiency * num_gpus
    seconds = flops / speed
    days = seconds * config.max_steps / 86400
    return Plan(
        parameters=work.parameters,
        memory=memory,
        peak=sum(memory.values()),
        sequences=sequences,
        flops=flops,
        seconds=seconds,
        days=days,
        cost=days * 24 * num_gpus * gpu.price,
    )


def is_sharded(config: TrainConfig, num_gpus: int) -> bool:
    """Whether each process holds only its share of the weights."""
    return config.parallelism == "fsdp2" and num_gpus > 1


def memory_of(config: TrainConfig, work: Work, num_gpus: int) -> dict[str, int]:
    """Bytes on each process by what they hold."""
    share = num_gpus if is_sharded(config, num_gpus) else 1
    weights, trained = WORD * work.parameters // share, WORD * work.trained // share
    memory = {
        "weights": weights,
        "EMA weights": weights,
        "optimiser (two moments)": 2 * trained,
        "gradients at the peak": work.gradients,
        "activations at the peak": work.activations,
    }
    if is_sharded(config, num_gpus):
        memory["two gathered blocks"] = 2 * work.largest_block
    elif num_gpus > 1:
        memory["gradients on their way"] = trained  # the buckets of DistributedDataParallel
    return memory


def measure(config: TrainConfig, num_gpus: int, sequences: int) -> Work:
    """Compute the gradient of one process's share of a step without numbers, `sequences` at once."""
    args = model_args(config)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the tables of low-rank attention are real
        model = build_model(config.model.family, config.model.preset, **args)
        if config.lora.rank:
            add_lora(model, config.lora.rank, 1.0)
        set_recomputation(model, config)
        module = TrainingModule(model, objective_of(config)).train()
        flops, memory = flop_counter(), LiveTensors()
        share = 1 / num_gpus if is_sharded(config, num_gpus) else 1.0
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(lambda tensor: memory.mark(tensor.grad, share))
        # What the parts of a step hold at most, the second already holds: the gradients of those before it.
        simulated = min(config.gradient_accumulation, 2)
        with flops, memory:
            for part in range(simulated):
                gradient_of_nothing(config, module, args, sequences, part, num_gpus * config.gradient_accumulation)
        blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks_of(model)]
        return Work(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            trained=sum(parameter.numel() for parameter in trained),
            flops=flops.get_total_flops() // simulated * config.gradient_accumulation,
            activations=memory.peak - memory.marked_at_peak,
            gradients=memory.marked_at_peak,
            largest_block=WORD * max(blocks, default=0),
        )


def gradient_of_nothing(
    config: TrainConfig, module: TrainingModule, args: dict[str, Any], sequences: int, part: int = 0, num_parts: int = 1
) -> None:
    """The gradient of one part of a step, on black images of the first class."""
    side = args["sample_size"]
    height, width = (side, side) if isinstance(side, int) else side
    lengths = (sequences, config.sequence_length) if config.sequence_length > 1 else (sequences,)
    images = torch.zeros(*lengths, args["in_channels"], height, width)
    each = config.sequence.contents in LABELLED_EACH and config.sequence_length > 1
    labels = torch.zeros(lengths if each else lengths[:1], dtype=torch.int64)
    random = step_randomness(config, 0, "cpu", part, num_parts)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        loss = module(images, labels, random).loss
    loss.backward()


def model_args(config: TrainConfig) -> dict[str, Any]:
    """The model's arguments; the data are only opened for what they leave out."""
    source = pretrained_pipeline(config.model)
    args = run_args(config, {} if source is None else own_args(source.transformer.config))
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
