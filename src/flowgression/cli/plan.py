"""`flowgression plan`: what a training run will need: memory, time, days and cost."""

import argparse
from typing import Any

from flowgression.cli._outputs import readable_size
from flowgression.errors import InputError

SUMMARY = "estimate memory, time and cost of a training run"

DESCRIPTION = """Estimate what a training run will need on so many GPUs: memory of each, time of a step, days and cost
to the end; or on this machine's CPU, whose speed is measured for five seconds. All flags of `flowgression train` change
the run that is estimated, for example --batch-size 512 --parallelism fsdp2 --gradient-accumulation 2. No GPU is needed;
docs/scaling.md says how far to trust the figures."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments of the command itself."""
    from flowgression.cli._parser import CommandParser

    parser = CommandParser("plan", DESCRIPTION)
    add = parser.add_argument
    add("--config", required=True, help="YAML file, or the name of a shipped configuration")
    add("--gpus", type=int, default=1, metavar="N", help="how many, over all machines (1)")
    add("--gpu", default="h100", help="a100, h100, h200, b200, l40s, rtx4090, or cpu: this machine, measured (h100)")
    add("--efficiency", type=float, metavar="E", help="share of that speed that a run reaches (0.35, of cpu 0.71)")
    add("--tflops", type=float, metavar="T", help="speed at efficiency 1 (the data sheet's, for the run's precision)")
    add("--memory-gib", type=float, metavar="M", help="memory of a GPU (the data sheet's)")
    add("--price", type=float, metavar="DOLLARS", help="of one GPU for one hour (a round figure)")
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns 0 if the run fits into memory, else 1."""
    args, rest = make_parser().parse_known_args([_with_dashes(argument) for argument in argv])
    from flowgression.cli.train import SWITCHES, parse
    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import config_from_dict

    values = parse(["--config", args.config, *rest])
    config = config_from_dict(TrainConfig, {name: value for name, value in values.items() if name not in SWITCHES})
    from flowgression.training.machine import CPU, CPU_EFFICIENCY, measured_cpu
    from flowgression.training.planner import EFFICIENCY, find_gpu, make_plan

    on_cpu = args.gpu == CPU
    if on_cpu and args.gpus != 1:
        raise InputError(f"--gpu cpu is this machine alone; leave --gpus {args.gpus} out")
    gpu = measured_cpu(config) if on_cpu else find_gpu(args.gpu)
    for name, field in (("tflops", "bf16" if config.precision == "bf16" else "fp32"), ("memory_gib", "memory")):
        if (value := getattr(args, name)) is not None:
            gpu = gpu._replace(**{field: value})
    if args.price is not None:
        gpu = gpu._replace(price=args.price)
    if min(gpu[:-1]) <= 0 or gpu.price < 0 or (gpu.price == 0 and not on_cpu):
        raise InputError(f"--tflops, --memory-gib and --price must be positive; got {tuple(gpu)}")
    usual = CPU_EFFICIENCY if on_cpu else EFFICIENCY
    efficiency = usual if args.efficiency is None else args.efficiency
    plan = make_plan(config, gpu, args.gpus, efficiency)
    show(args, config, gpu, plan, efficiency)
    return 0 if plan.peak <= gpu.memory * 2**30 else 1


def show(args: argparse.Namespace, config: Any, gpu: Any, plan: Any, efficiency: float) -> None:
    """Print the estimate as a table, and what to do if it does not fit."""
    from rich.table import Table

    from flowgression.terminal import Terminal
    from flowgression.training.machine import CPU

    show_rich = Terminal().print

    model = f"{config.model.family} {config.model.preset or ''}".strip()
    table = Table(title=f"{args.config}: {model} on {args.gpus} x {args.gpu}", title_justify="left", show_header=False)
    table.add_row("parameters", f"{plan.parameters:,}")
    for name, size in plan.memory.items():
        table.add_row(f"memory: {name}", readable_size(size))
    where = "on this machine" if args.gpu == CPU else "on each GPU"
    table.add_row("memory: peak", f"{readable_size(plan.peak)} of {gpu.memory:.3g} GiB {where}")
    images = config.batch_size / plan.seconds
    table.add_row("a step", f"{config.batch_size} images, {plan.flops:.2e} FLOPs")
    table.add_row("time of a step", f"{plan.seconds:.3g} s at efficiency {efficiency:g}")
    table.add_row("speed", f"{images:,.0f} images/s")
    if config.minutes is not None:
        steps = round(config.minutes * 60 / plan.seconds)
        table.add_row("whole run", f"{config.minutes:g} minutes: {steps:,} steps, {steps * config.batch_size:,} images")
    else:
        table.add_row("whole run", f"{config.max_steps:,} steps: {_long(plan.days)}")
        if gpu.price:
            table.add_row("cost", f"{plan.cost:,.0f} dollars at {gpu.price:g} an hour a GPU")
    show_rich(table)
    if plan.peak > gpu.memory * 2**30:
        show_rich(
            "This does not fit. --gradient-accumulation K divides activations by K; --activation-checkpointing keeps "
            "few of them; --parallelism fsdp2 shares weights, average, optimiser and gradients among GPUs."
        )


def _long(days: float) -> str:
    """Days, hours or minutes."""
    if days >= 1:
        return f"{days:.1f} days"
    return f"{days * 24:.1f} hours" if days * 24 >= 1 else f"{days * 1440:.1f} minutes"


def _with_dashes(argument: str) -> str:
    return argument.replace("_", "-") if argument.startswith("--memory") else argument
