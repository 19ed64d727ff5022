"""Model folders that name code, or hold some: nothing of it is imported, on any version of diffusers."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from flowgression import InputError, load_pipeline, make_pipeline
from flowgression.models import find_family

CANARY = "from pathlib import Path\nPath({mark!r}).touch()\nclass Evil:\n    from_pretrained = from_config = print\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with an autoencoder and a scheduler."""
    torch.manual_seed(0)
    sit = find_family("sit").model_class
    model = sit(sample_size=4, patch_size=2, in_channels=2, hidden_size=16, depth=1, num_heads=2, num_classes=3)
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    pipe = make_pipeline(model.eval(), vae=vae.eval(), id2label={0: "zero"})
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    target = tmp_path_factory.mktemp("models") / "model"
    pipe.save_pretrained(target)
    return target


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is there once the module `canary` of the current folder was imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "canary.py").write_text(CANARY.format(mark=str(tmp_path / "executed")))
    sys.modules.pop("canary", None)
    return tmp_path / "executed"


def changed(folder: Path, file: str = "model_index.json", **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_folder_as_it_is_loads(folder: Path) -> None:
    pipe = load_pipeline(folder)
    assert pipe.vae is not None
    assert type(pipe.scheduler) is FlowMatchEulerDiscreteScheduler


PAIRS: list[Any] = [
    ["canary", "Evil"], ["os", "abort"], ["flowgression.families.sit.model", "Evil"], ["diffusers", "AutoencoderTiny"],
    ["diffusers", "DDIMScheduler"], ["canary", None], [None, "Evil"], [["canary"], "Evil"], "canary", 3,
    ["canary", "Evil", "Evil"],
]  # fmt: skip


@pytest.mark.parametrize("component", ["vae", "scheduler", "transformer", "another"])
def test_an_index_that_names_other_classes(folder: Path, saved: Path, mark: Path, component: str) -> None:
    for pair in PAIRS:
        shutil.copy(saved / "model_index.json", folder)
        changed(folder, **{component: pair})
        with pytest.raises(InputError, match=f"as its {component}"):
            load_pipeline(folder)
        assert not mark.exists(), pair


def test_the_command_says_so_in_one_line(folder: Path, mark: Path, command: Callable[..., Any]) -> None:
    changed(folder, vae=["canary", "Evil"])
    result = command("sample", "--model", folder, "--num-images", 1, "--num-inference-steps", 1, "--out", "x.png")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    ["vae/canary.py", "vae/diffusers.py", "scheduler/diffusers.py", "transformer/flowgression.families.sit.model.py",
     "transformer/canary.py", "None.py", "pipeline.py"],
)  # fmt: skip
def test_a_folder_with_programs(folder: Path, mark: Path, program: str) -> None:
    """On diffusers 0.37 some of these names are run by a folder whose index names nothing odd."""
    shutil.copy(mark.with_name("canary.py"), folder / program)
    with pytest.raises(InputError, match="holds a program, "):
        load_pipeline(folder)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["model_index.json", "transformer/config.json", "vae/config.json"])
def test_odd_class_names(folder: Path, mark: Path, file: str) -> None:
    """Of an autoencoder's configuration only the type matters: it is an AutoencoderKL whatever it is called there."""
    for name in [["canary", "Evil"], {"a": 1}, 3, *([] if file.startswith("vae") else [None, "Evil"])]:
        changed(folder, file, _class_name=name)
        for place in (folder, folder / "transformer") if file.startswith("transformer") else (folder,):
            with pytest.raises(InputError):
                load_pipeline(place)
    assert not mark.exists()


@pytest.mark.parametrize("key", ["quantization_config", "auto_map"])
@pytest.mark.parametrize("file", ["transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_configurations_that_choose_code(folder: Path, file: str, key: str) -> None:
    changed(folder, file, **{key: {"quant_method": "torchao", "AutoModel": "canary.Evil"}})
    with pytest.raises(InputError, match=f"holds {key}, which chooses code"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("depth", 10**9, "depth=1000000000 is beyond"),
        ("depth", 2000, "depth=2000 is beyond"),
        ("hidden_size", 2**40, "hidden_size=1099511627776 is beyond"),
        ("sample_size", 2**20, "patches a side"),
        ("num_classes", 10**12, "num_classes=1000000000000 is beyond"),
    ],
)
def test_sizes_that_would_hang(folder: Path, name: str, value: int, message: str) -> None:
    changed(folder, "transformer/config.json", **{name: value})
    began = time.process_time()
    with pytest.raises(InputError, match=message):
        load_pipeline(folder)
    assert time.process_time() - began < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("file", ["transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"])
def test_pipes_instead_of_files(folder: Path, command: Callable[..., Any], file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    result = command("sample", "--model", folder, "--out", folder / "x.png")
    assert result.status in (1, 2)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("places", ["x", ["x"], 3, {"x": 3}, {"x": ["a"]}, {"x": "../other.safetensors"}])
def test_odd_lists_of_shards(folder: Path, places: Any) -> None:
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=r"weight_map|lacks"):
        load_pipeline(folder)


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    """A valid adapter of the model in `folder`."""
    weights = load_file(folder / "transformer/diffusion_pytorch_model.safetensors")
    tensors = {}
    for name in [name for name in weights if name.endswith("attn.qkv.weight")]:
        stem, (rows, columns) = name.removesuffix(".weight"), weights[name].shape
        tensors |= {f"{stem}.lora_A": torch.ones(1, columns), f"{stem}.lora_B": torch.ones(rows, 1)}
    assert tensors
    place = tmp_path / "adapter"
    place.mkdir()
    save_file(tensors, place / "adapter.safetensors")
    info = {"base": str(folder), "class": "SiT", "rank": 1, "alpha": 1.0}
    (place / "adapter.json").write_text(json.dumps(info))
    return place


def test_the_adapter_as_it_is_loads(adapter: Path) -> None:
    assert load_pipeline(adapter).transformer is not None


TYPES: list[dict[str, Any]] = [
    {"rank": 0}, {"rank": -1}, {"rank": "1"}, {"rank": None}, {"rank": 1.5}, {"rank": True}, {"alpha": "1"},
    {"alpha": None}, {"alpha": [1]}, {"base": 3}, {"base": None}, {"base": ["a"]}, {"base": {"a": 1}}, {"class": 3},
    {"class": ["SiT"]}, {"id2label": 3}, {"id2label": ["a"]}, {"id2label": {"a": "b"}}, {"id2label": {"0": 1}},
]  # fmt: skip


def test_adapters_of_other_types(adapter: Path) -> None:
    before = json.loads((adapter / "adapter.json").read_text())
    for values in TYPES:
        changed(adapter, "adapter.json", **{"id2label": None, **before, **values})
        with pytest.raises(InputError):
            load_pipeline(adapter)


def test_adapters_that_name_themselves(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for base in (str(adapter), "adapter", "./adapter/../adapter"):
        changed(adapter, "adapter.json", base=base)
        with pytest.raises(InputError, match="an adapter of itself"):
            load_pipeline("adapter")
    shutil.copytree(adapter, tmp_path / "other")
    changed(adapter, "adapter.json", base="other")
    changed(tmp_path / "other", "adapter.json", base="adapter")
    with pytest.raises(InputError, match="an adapter of itself"):
        load_pipeline("adapter")


def test_factors_without_a_product(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter.safetensors")
    name = next(name for name in tensors if name.endswith("lora_A"))
    for wrong in (torch.ones(2, tensors[name].shape[1]), torch.ones(3), torch.ones(1, 2, 2)):
        save_file({**tensors, name: wrong}, adapter / "adapter.safetensors")
        with pytest.raises(InputError, match="which have no product"):
            load_pipeline(adapter)


def test_deep_json(folder: Path, adapter: Path) -> None:
    for place, file in ((folder, "model_index.json"), (folder, "transformer/config.json"), (adapter, "adapter.json")):
        (place / file).write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
        with pytest.raises(InputError, match="nested deeper"):
            load_pipeline(place)
