"""Checkpoints as training scripts write them: read without running anything, compared before anything is dropped."""

import argparse
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgression import InputError, SiT
from flowgression.cli.convert import load_released as load_by_family
from flowgression.families.arflow.released import load_released as load_arflow
from flowgression.families.flowar.released import load_released as load_flowar
from flowgression.families.sit.released import load_released as load_sit
from flowgression.layers.released import read_args, read_checkpoint, read_state_dict
from tests.families.golden import Golden

ARGS = argparse.Namespace(
    model="SiT-XL/2", num_classes=10, lr=np.float64(1e-4), betas=(0.9, np.float32(0.95)), out=Path("runs"),
    steps=np.int64(7),    nested=argparse.Namespace(a=np.bool_(True)),
)  # fmt: skip


def test_checkpoints_of_training_scripts(tmp_path: Path) -> None:
    weights = OrderedDict(Golden("sit_dev").weights())
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(1e-4)}]}
    path = tmp_path / "0050000.pt"
    torch.save({"model": {}, "ema": weights, "opt": optimizer, "args": ARGS, "epoch": np.int64(3)}, path)
    found = read_state_dict(path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    args = read_args(read_checkpoint(path))
    assert (args["model"], args["num_classes"], args["lr"], args["nested"].a) == ("SiT-XL/2", 10, 1e-4, True)
    assert str(args["out"]) == "runs"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [("ema",), ("model_ema",), ("state_dict", "model"), ()])
def test_prefixes_and_wrappers(prefix: str, wrapper: tuple[str, ...]) -> None:
    weights: Any = {f"{prefix}a.weight": torch.zeros(2), f"{prefix}b": torch.ones(1)}
    for name in reversed(wrapper):
        weights = {name: weights, "step": 3}
    assert list(read_state_dict(weights)) == ["a.weight", "b"]


class Harmful:
    """What a hostile file holds: unpickling it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_nothing_is_executed(tmp_path: Path) -> None:
    place = tmp_path / "executed"
    for content in ({"ema": {"a": torch.zeros(1)}, "args": Harmful(place)}, Harmful(place)):
        torch.save(content, tmp_path / "a.pt")
        (tmp_path / "b.pt").write_bytes(pickle.dumps(content))
        for name in ("a.pt", "b.pt"):
            with pytest.raises(InputError) as error:
                read_state_dict(tmp_path / name)
            assert len(str(error.value)) < 400
            assert "\n" not in str(error.value)
    assert not place.exists()
    torch.save({"ema": {"a": torch.zeros(1)}, "args": Harmful(place)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"holds Python objects \((posix|nt)\.mkdir\) beside its tensors"):
        read_state_dict(tmp_path / "a.pt")


def test_git_lfs_pointers(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 2700000000\n"
    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=r"is a Git LFS pointer, .* `git lfs pull`"):
            read_state_dict(tmp_path / name)


def changed(family: str, **tensors: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    weights = Golden(f"{family}_dev").weights()
    for name, change in tensors.items():
        weights[name] = change(weights[name])
    return weights


def test_tables_are_compared_before_they_are_dropped() -> None:
    for family, load in (
        ("sit", lambda weights: load_sit(weights, num_heads=4, num_classes=10)),
        ("arflow", lambda weights: load_arflow(weights, num_classes=10)),
    ):
        load(changed(family, pos_embed=lambda table: table + 1e-7))
        with pytest.raises(InputError, match="pos_embed is not the table that the published models compute"):
            load(changed(family, pos_embed=lambda table: table.roll(1, 1)))
    weights = Golden("flowar_dev").weights()
    name = "encoder_blocks.0.attn.rope.freqs"
    load_flowar(weights)
    with pytest.raises(InputError, match=f"{name} is not the table"):
        load_flowar(weights | {name: weights[name] * 1.5})


def test_a_table_of_labels_without_a_null_row(tmp_path: Path) -> None:
    name = "y_embedder.embedding_table.weight"
    weights = changed("sit", **{name: lambda table: table[:-1]})
    rows = len(weights[name])
    model: Any = load_sit(weights, num_heads=4, num_classes=rows)
    assert (model.config.num_classes, model.config.class_dropout_prob) == (rows, 0.0)
    assert torch.equal(model.state_dict()[name][:-1], weights[name])
    torch.save({"ema": weights, "args": argparse.Namespace(num_classes=rows)}, tmp_path / "a.pt")
    told: Any = load_sit(tmp_path / "a.pt", num_heads=4)
    assert told.config.num_classes == rows
    with pytest.raises(InputError, match=f"{rows} rows, which fits neither {rows + 1} classes"):
        load_sit(weights, num_heads=4, num_classes=rows + 1)
    for undecided in (lambda: load_sit(weights, num_heads=4), lambda: load_arflow(Golden("arflow_dev").weights())):
        with pytest.raises(InputError, match=r"nothing says whether the last one is a class .* or --num-classes"):
            undecided()
    arflow = changed("arflow", **{name: lambda table: torch.cat([table] * 200)[:1000]})
    found: Any = load_arflow(arflow)
    assert found.config.num_classes == 1000  # ImageNet's: none of them is the null label
    with pytest.raises(InputError, match="the weights of flowar show their classes"):
        load_by_family("flowar", "a.pt", num_classes=3)


def test_heads_are_those_of_a_published_size_or_asked_for() -> None:
    weights = SiT(sample_size=4, depth=2, hidden_size=384, num_heads=6).state_dict()
    weights["pos_embed"] = SiT(sample_size=4, depth=1, hidden_size=384, num_heads=6).pos_embed
    with pytest.raises(InputError, match="width 384 and depth 2, which no published SiT has"):
        load_sit(weights)


def test_relatives_say_what_they_are() -> None:
    weights = Golden("sit_dev").weights()
    for name, what in (("projectors.0.0.weight", "REPA"), ("blocks.0.mlp.w12.weight", "LightningDiT")):
        with pytest.raises(InputError, match=f"it is a .*{what}"):
            load_sit(weights | {name: torch.zeros(2, 2)}, num_heads=4)
    flowar = Golden("flowar_dev").weights()
    mask = torch.nn.functional.pad(flowar["mask"], (2, 0, 2, 0))
    with pytest.raises(InputError, match="buffer_size > 0"):
        load_flowar(flowar | {"mask": mask})
