"""What the ImageNet recipes need, as the table of docs/scaling.md; nothing is trained, and no GPU is asked.

    python benchmarks/recipes.py

Each recipe gets the fewest parts of a step (`gradient_accumulation`) that leave an eighth of the memory of a GPU
free, as docs/scaling.md advises.
"""

from dataclasses import replace
from pathlib import Path

import yaml

from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict
from flowgression.training.planner import EFFICIENCY, Plan, find_gpu, make_plan

CONFIGS = Path(__file__).parents[1] / "configs"
GPU = "h100"
FREE = 1 / 8
RECIPES = {
    "arflow-imagenet128-xl": (8, "ddp"),
    "arflow-imagenet256-xl": (8, "ddp"),
    "sit-imagenet256-xl": (8, "ddp"),
    "flowar-imagenet256-s": (8, "ddp"),
    "flowar-imagenet256-l": (8, "ddp"),
    "flowar-imagenet256-h": (32, "fsdp2"),
}
"""GPUs and how the network is shared among them."""


def fitting(name: str, gpus: int, parallelism: str) -> tuple[int, TrainConfig, Plan]:
    """The fewest parts of a step that fit, in powers of two."""
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config, gpu, parts = replace(config_from_dict(TrainConfig, values), parallelism=parallelism), find_gpu(GPU), 1
    while True:
        config = replace(config, gradient_accumulation=parts)
        plan = make_plan(config, gpu, gpus)
        if plan.peak <= (1 - FREE) * gpu.memory * 2**30:
            return parts, config, plan
        parts *= 2


def main() -> None:
    print(f"efficiency {EFFICIENCY}")
    print("| configuration | parameters | images a step | on | parts of a step | peak of a GPU | a step | whole run |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    for name, (gpus, parallelism) in RECIPES.items():
        parts, config, plan = fitting(name, gpus, parallelism)
        where = f"{plan.parameters:,} | {config.batch_size:,} | {gpus} x {GPU}, `{parallelism}` | {parts}"
        print(
            f"| `{name}` | {where} | {plan.peak / 2**30:.1f} GiB | {plan.seconds:.3f} s | {plan.days:.1f} days |",
            flush=True,
        )


if __name__ == "__main__":
    main()
