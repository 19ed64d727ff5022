"""Small valid inputs of every kind, made once; the fuzzer mutates copies of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from flowgression.cli.main import main

SIT = {"patch_size": 2, "hidden_size": 16, "depth": 1, "num_heads": 2}
TRAIN: dict[str, Any] = {
    "model": {"family": "sit", "preset": None, "args": SIT, "pretrained": None},
    "data": {"path": "images", "split": "train", "image_size": 8, "channels": 1, "flip": False, "num_workers": 0},
    "sequence_length": 1,
    "batch_size": 4,
    "max_steps": 1,
    "optimizer": {"lr": 1e-3, "beta1": 0.9, "eps": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0, "clip_value": None},
    "schedule": {"name": "cosine", "warmup_steps": 1, "final_factor": 0.1},
    "ema": {"decay": 0.9, "warmup": True},
    "precision": "fp32",
    "compile": False,
    "parallelism": "ddp",
    "gradient_accumulation": 1,
    "activation_checkpointing": False,
    "head_chunks": 1,
    "device": "cpu",
    "num_threads": 1,
    "seed": 0,
    "out": "run",
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
    "log_every": 1,
    "preview": {"every": 0, "num_images": 2, "num_inference_steps": 1, "guidance_scale": 1.0},
    "tracker": "none",
}
STUDY: dict[str, Any] = {
    "title": "two models",
    "train": {**TRAIN, "data": {"path": "mnist", "image_size": 8}},
    "models": {"one": {"max_steps": 2}, "two": {"max_steps": 2, "model": {"args": {"depth": 2}}}},
    "seeds": [0, 1],
    "equal": ["images"],
    "num_images": 10,
    "batch_size": 5,
    "grids": [{"num_inference_steps": [2, 4], "guidance_scale": [1.0, 1.5], "solver": ["euler"], "models": ["one"]}],
    "reference": "mnist:test",
    "features": "mnist",
    "keep": 10,
    "bootstrap": 2,
    "groups": {"all": ["one", "two"]},
    "jobs": 1,
    "out": "study",
}


@dataclass(frozen=True)
class Base:
    """Where the valid inputs are.

    Attributes:
        folder: images/, sit/, arflow/, flowar/, vae/, latents/, pixels/, run/ and the files named in `make_base`.
    """

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name


def make_base(folder: Path) -> Base:
    """Write the inputs to `folder`; about three seconds."""
    base, draw = Base(folder), np.random.default_rng(0)
    for index in range(6):
        path = base.path("images") / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    _models(base)
    _checkpoints(base)
    images = draw.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    np.savez(base.path("samples.npz"), arr_0=images, labels=np.arange(6) % 3, sampling=json.dumps({"seed": 0}))
    train = {**TRAIN, "data": {**TRAIN["data"], "path": str(base.path("images"))}}
    base.path("train.yaml").write_text(yaml.safe_dump(train))
    base.path("study.yaml").write_text(yaml.safe_dump(STUDY))
    base.path("labels.txt").write_text("0\n1\nthree\n")
    base.path("names.json").write_text(json.dumps({"0": "zero", "1": "one"}))
    samples, images_folder = str(base.path("samples.npz")), str(base.path("images"))
    for suffix in ("safetensors", "npz"):
        _run("reference", samples, "--out", str(base.path(f"reference.{suffix}")), "--device", "cpu")
    cache = ["--data", images_folder, "--image-size", "8", "--shard-size", "4", "--device", "cpu"]
    _run("cache-latents", *cache, "--autoencoder", str(base.path("vae")), "--out", str(base.path("latents")))
    _run("cache-latents", *cache, "--autoencoder", "identity", "--out", str(base.path("pixels")))
    _adapter_of_sit(base)
    _run("circuit", "compile", "linear", "--n", "1", "--bits", "4", "--out", str(base.path("circuit.npz")))
    _run("train", "--config", str(base.path("train.yaml")), "--out", str(base.path("run")))
    return base


def _models(base: Base) -> None:
    from diffusers import AutoencoderKL

    from flowgression import make_pipeline
    from flowgression.models import build_model

    shape = {"sample_size": 8, "in_channels": 1, "num_classes": 4}
    scales = {"scales": (1, 2, 4), "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "hidden_size": 16}
    head = {"flow_width": 16, "flow_depth": 1, "flow_num_heads": 1, "patch_size": 2}
    names = {0: "zero", 1: "one", 2: "two", 3: "three, trio"}
    for family, args in (("sit", SIT), ("arflow", SIT), ("flowar", scales | head)):
        torch.manual_seed(0)
        model = build_model(family, **shape, **args)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
        make_pipeline(model, id2label=names).save_pretrained(base.path(family))
    AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(base.path("vae"))  # fmt: skip


def _adapter_of_sit(base: Base) -> None:
    """adapter/, and whole/: a pipeline with an autoencoder and a scheduler."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
    from safetensors.torch import load_file

    from flowgression import make_pipeline
    from flowgression.models import build_model
    from flowgression.sampling.lora import save_adapter

    weights = load_file(next((base.path("sit") / "transformer").glob("*.safetensors")))
    tensors = {}
    for name in [name for name in weights if name.endswith("attn.qkv.weight")]:
        rows, columns = weights[name].shape
        stem = name.removesuffix(".weight")
        tensors |= {f"{stem}.lora_A": torch.ones(1, columns), f"{stem}.lora_B": torch.ones(rows, 1)}
    info = {"base": str(base.path("sit")), "class": "SiT", "rank": 1, "alpha": 1.0, "id2label": {"0": "zero"}}
    save_adapter(base.path("adapter"), tensors, info)
    model = build_model("sit", sample_size=4, in_channels=2, num_classes=4, **SIT)
    pipe = make_pipeline(model, vae=AutoencoderKL.from_pretrained(base.path("vae")))
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    pipe.save_pretrained(base.path("whole"))


def _checkpoints(base: Base) -> None:
    """Released checkpoints in miniature, under the released names."""
    from safetensors.torch import save_file

    from flowgression import ARFlow, SiT

    for family, cls in (("sit", SiT), ("arflow", ARFlow)):
        model = cls(sample_size=8, in_channels=1, num_classes=4, **SIT)
        weights = {**model.state_dict(), "pos_embed": model.pos_embed}
        torch.save({"ema": weights, "args": None}, base.path(f"{family}.pt"))
        save_file({name: value.contiguous() for name, value in weights.items()}, base.path(f"{family}.safetensors"))


def _run(*arguments: str) -> None:
    status = main(list(arguments))
    assert status == 0, f"{arguments} ended with {status}"
