"""The processor of this machine, as the planner sees processors: its speed is measured on the model that is planned."""

import os
import time

import torch

from flowgression.flops import flop_counter
from flowgression.registry import build_model
from flowgression.training.automatic import CALIBRATION, OVERHEAD
from flowgression.training.config import TrainConfig
from flowgression.training.objectives import TrainingModule, objective_of
from flowgression.training.planner import Gpu, gradient_of_nothing, model_args

CPU = "cpu"
CPU_EFFICIENCY = round(1 / OVERHEAD, 2)
"""Share of the speed of gradients alone that a run reaches: optimiser, average, data and previews take the rest."""
MOST_SEQUENCES = 16


def measured_cpu(config: TrainConfig, seconds: float = CALIBRATION) -> Gpu:
    """This machine, by gradients of the run's own model for so many seconds, in float32.

    Raises:
        InputError: a model that neither its arguments nor the data complete.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    args = model_args(config)
    model = build_model(config.model.family, config.model.preset, **args)
    module = TrainingModule(model, objective_of(config)).train()
    sequences = max(1, min(MOST_SEQUENCES, config.batch_size // config.sequence_length))
    counter = flop_counter()
    with counter:  # warms up, too
        gradient_of_nothing(config, module, args, sequences)
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds or not done:
        gradient_of_nothing(config, module, args, sequences)
        done += 1
    speed = done * counter.get_total_flops() / (time.perf_counter() - begin) / 1e12
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Gpu(speed, speed, memory, 0.0)
