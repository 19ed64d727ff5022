"""The models that are run on the simulated GPU, and what is run: training steps and sampling."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgression import HOFAR, ARFlow, ARFlowPipeline, FlowAR, FlowARPipeline, SiT, SiTPipeline, TrainConfig
from flowgression.data import DataConfig
from flowgression.training import EmaConfig, ModelConfig, OptimizerConfig, PreviewConfig
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer
from tests.simulated_gpu.device import SimulatedGpu

_DIT = {"patch_size": 7, "hidden_size": 16, "depth": 1, "num_heads": 2}
_FLOWAR: dict[str, Any] = {"patch_size": 14, "hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2}
_FLOWAR |= {"flow_width": 16, "flow_depth": 1, "flow_num_heads": 2}
_MANY_TOKENS = {"patch_size": 4, "scales": (1, 3, 7), "flow_num_heads": 4}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "arflow": (ARFlow, ARFlowPipeline, _DIT),
    "arflow with all images as context": (ARFlow, ARFlowPipeline, _DIT | {"context": "full"}),
    "sit": (SiT, SiTPipeline, _DIT),
    "flowar": (FlowAR, FlowARPipeline, _FLOWAR),
    "flowar with cross-attention": (FlowAR, FlowARPipeline, _FLOWAR | {"cross_attention": True}),
    "hofar": (HOFAR, FlowARPipeline, _FLOWAR | {"path": "gvp"}),
    # Heads of width 4 and 1, 9 and 49 tokens: attention of low rank through its features, and the dense form for few.
    "fastflowar": (FlowAR, FlowARPipeline, _FLOWAR | {"attention": "lowrank", "num_heads": 4} | _MANY_TOKENS),
}
SIZE = {"sample_size": 28, "in_channels": 1, "num_classes": 10}


def make_model(name: str, **overrides: Any) -> Any:
    """A model in evaluation mode, every weight random: none of the zeros of a fresh model hides a path."""
    model_class, _, settings = MODELS[name]
    torch.manual_seed(0)
    model = model_class(**{**SIZE, **settings, **overrides})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def train(name: str, folder: Path, device: str, *, steps: int = 2, **fields: Any) -> Iterator[dict[str, float]]:
    """The metrics of some steps of the real training loop on digits of 28 x 28 pixels."""
    model_class, _, settings = MODELS[name]
    config: dict[str, Any] = {
        "model": ModelConfig(family=model_class.__name__.lower(), args=settings | {"class_dropout_prob": 0.2}),
        "data": DataConfig(path="mnist", split="test", num_workers=0),
        "sequence_length": 3 if model_class is ARFlow else 1,
        "batch_size": 6,
        "max_steps": steps,
        "optimizer": OptimizerConfig(lr=1e-2, clip_norm=1.0, clip_value=0.1),
        "ema": EmaConfig(decay=0.9),
        "device": device,
        "num_threads": None,
        "out": str(folder / device),
        "preview": PreviewConfig(every=0),
        "tracker": "none",
    }
    with Trainer(TrainConfig(**(config | fields))) as trainer:
        batches = trainer.batches(0)
        for step in range(steps):
            yield training_step(trainer, step, next(batches))[0]


def sampler(name: str, gpu: SimulatedGpu | None = None, **call: Any) -> Callable[..., Tensor]:
    """A function that draws two images with the real pipeline; keywords override those of the call."""
    pipe = MODELS[name][1](make_model(name))
    pipe.set_progress_bar_config(disable=True)
    if gpu is not None:
        pipe.to("cuda:0")
    settings = {"class_labels": [1, 2], "num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "latent"} | call

    def draw(**changes: Any) -> Tensor:
        return pipe(generator=torch.Generator().manual_seed(0), **(settings | changes)).images

    return draw
