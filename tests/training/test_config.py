"""Every check of the configuration fires, and dictionaries, YAML and dataclasses say the same."""

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from flowgression import InputError, TrainConfig
from flowgression.training import (
    EmaConfig,
    ModelConfig,
    OptimizerConfig,
    PreviewConfig,
    ScheduleConfig,
    config_from_dict,
    config_to_dict,
)
from flowgression.training.nested import flat_config

WRONG: list[tuple[type, dict[str, Any], str]] = [
    (ModelConfig, {"family": "arflw"}, "model.family='arflw'.*did you mean 'arflow'"),
    (OptimizerConfig, {"lr": 0.0}, "optimizer.lr=0.0"),
    (OptimizerConfig, {"lr": float("nan")}, "optimizer.lr=nan"),
    (OptimizerConfig, {"beta1": 1.0}, "optimizer.beta1"),
    (OptimizerConfig, {"beta2": -0.1}, "optimizer.beta2"),
    (OptimizerConfig, {"eps": 0.0}, "optimizer.eps"),
    (OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay"),
    (OptimizerConfig, {"clip_norm": 0.0}, "optimizer.clip_norm"),
    (OptimizerConfig, {"clip_value": -3.0}, "optimizer.clip_value"),
    (ScheduleConfig, {"name": "cosin"}, "schedule.name='cosin'.*did you mean 'cosine'"),
    (ScheduleConfig, {"warmup_steps": -1}, "schedule.warmup_steps"),
    (ScheduleConfig, {"final_factor": 1.5}, "schedule.final_factor"),
    (EmaConfig, {"decay": 1.0}, "ema.decay"),
    (PreviewConfig, {"every": -1}, "preview.every"),
    (PreviewConfig, {"num_images": 0}, "preview.num_images"),
    (PreviewConfig, {"num_inference_steps": 0}, "preview.num_inference_steps"),
    (TrainConfig, {"sequence_length": -1}, "sequence_length=-1"),
    (TrainConfig, {"model": ModelConfig(family="sit"), "sequence_length": 5}, "sequence_length=5: .* sit .* single"),
    (TrainConfig, {"batch_size": 0}, "batch_size=0"),
    (TrainConfig, {"batch_size": 121}, "batch_size=121.*sequence_length=5; 125 is the next"),
    (TrainConfig, {"max_steps": 0}, "max_steps"),
    (TrainConfig, {"checkpoint_every": 0}, "checkpoint_every"),
    (TrainConfig, {"keep_checkpoints": 0}, "keep_checkpoints"),
    (TrainConfig, {"log_every": 0}, "log_every"),
    (TrainConfig, {"num_threads": 0}, "num_threads"),
    (TrainConfig, {"seed": -1}, "seed"),
    (TrainConfig, {"out": ""}, "out"),
    (TrainConfig, {"precision": "fp16"}, "precision='fp16'"),
    (TrainConfig, {"device": "gpu"}, "device='gpu'"),
    (TrainConfig, {"tracker": "tensorbord"}, "tracker.*did you mean 'tensorboard'"),
]


@pytest.mark.parametrize(("kind", "values", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_by_name(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimiser": {}}, "unknown key optimiser; did you mean 'optimizer'"),
        ({"optimizer": {"learning_rate": 1}}, "unknown key optimizer.learning_rate"),
        ({"data": {"pth": "x"}}, "unknown key data.pth; did you mean 'path'"),
        ({"ema": 0.9}, "ema=0.9 must be a section"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_from_dict(TrainConfig, values)


def test_a_configuration_survives_dictionaries() -> None:
    config = TrainConfig(model=ModelConfig(family="sit", args={"depth": 3}), sequence_length=1, seed=7)
    assert config_from_dict(TrainConfig, config_to_dict(config)) == config


def test_missing_keys_keep_their_defaults() -> None:
    assert config_from_dict(TrainConfig, {"ema": {"decay": 0.5}}) == TrainConfig(ema=EmaConfig(decay=0.5))


def test_flat_names_are_those_of_the_flags() -> None:
    flat = flat_config(TrainConfig(model=ModelConfig(args={"depth": 3, "scales": (1, 2)})))
    assert flat["optimizer.lr"] == 1e-4
    assert flat["model.args.depth"] == 3
    assert flat["model.args.scales"] == [1, 2]
    assert flat["max_steps"] == 10_000


def test_every_field_is_documented() -> None:
    kinds = [TrainConfig, ModelConfig, OptimizerConfig, ScheduleConfig, EmaConfig, PreviewConfig]
    for kind in kinds:
        documentation = inspect.cleandoc(kind.__doc__ or "")  # Python 3.13 strips the indentation itself
        assert is_dataclass(kind)
        for entry in fields(kind):
            assert f"\n    {entry.name}: " in documentation, f"{kind.__name__}.{entry.name}"
