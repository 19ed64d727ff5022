"""The shipped configurations of FlowAR: they load, and their models have the sizes that they promise."""

from pathlib import Path

import pytest
import torch
import yaml

from flowgression import TrainConfig
from flowgression.models import build_model
from flowgression.training import config_from_dict, config_to_dict

CONFIGS = Path(__file__).parents[3] / "configs"
PARAMETERS = {
    "flowar-mnist": 1_337_272,
    "flowar-mnist-quick": 528_360,
    "fastflowar-mnist": 1_337_336,  # those of flowar-mnist and a tau for each of 4 x 16 heads
    "fastflowar-mnist64": 790_579,  # more than half of them in the position table of 4,437 tokens
    "flowar-imagenet256-s": 171_718_072,
    "flowar-imagenet256-b": 288_162_064,
    "flowar-imagenet256-l": 586_862_912,
    "flowar-imagenet256-h": 1_913_316_880,
    "fastflowar-imagenet256-s": 171_719_480,  # those of the exact ones and a tau for each head
    "fastflowar-imagenet256-b": 288_165_520,
    "fastflowar-imagenet256-l": 586_868_032,
    "fastflowar-imagenet256-h": 1_913_327_248,
}


def load(name: str) -> TrainConfig:
    return config_from_dict(TrainConfig, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


def test_every_configuration_is_named_here() -> None:
    finetuned = {"fastflowar-mnist-finetune", "flowar-mnist-bounded"}  # as large as what it starts from
    assert {path.stem for path in CONFIGS.glob("*flowar-*.yaml")} == set(PARAMETERS) | finetuned


def test_the_fast_digits_differ_from_the_exact_ones_in_attention_alone() -> None:
    exact, fast = (config_to_dict(load(name)) for name in ("flowar-mnist", "fastflowar-mnist"))
    attention = {"num_heads", "flow_num_heads", "attention", "attention_degree", "attention_max_tau"}
    for config in (exact, fast):
        config["model"]["args"] = {k: v for k, v in config["model"]["args"].items() if k not in attention}
        del config["out"], config["num_threads"]
    assert exact == fast


@pytest.mark.parametrize("size", "sblh")
def test_the_fast_recipes_differ_from_the_exact_ones_in_attention_alone(size: str) -> None:
    exact, fast = (config_to_dict(load(f"{name}-imagenet256-{size}")) for name in ("flowar", "fastflowar"))
    assert fast["model"].pop("preset") == f"fast-{exact['model'].pop('preset')}"
    assert fast["model"]["args"].pop("attention_dropout") == 0  # low rank keeps no weights that could be dropped
    assert exact["model"]["args"].pop("attention_dropout") == 0.1
    assert (fast.pop("out"), exact.pop("out")) == (
        f"runs/fastflowar-imagenet256-{size}",
        f"runs/flowar-imagenet256-{size}",
    )
    assert exact == fast


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    model = load(name).model
    facts = {"sample_size": load(name).data.image_size or 28, "in_channels": 1, "num_classes": 10}
    with torch.device("meta"):
        network = build_model(model.family, model.preset, **(facts | model.args))
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if "imagenet" in name])
def test_recipe_of_the_paper_and_the_released_code(name: str) -> None:
    config = load(name)
    epoch = 1_281_167 / config.batch_size
    assert config.batch_size == 2048
    assert config.optimizer.lr == pytest.approx(5e-5 * config.batch_size / 256)
    assert config.max_steps / epoch == pytest.approx(400, rel=0.01)
    assert config.schedule.warmup_steps / epoch == pytest.approx(100, rel=0.01)
    assert config.schedule.name == "cosine"
    assert config.optimizer.lr * config.schedule.final_factor == pytest.approx(1e-5)
