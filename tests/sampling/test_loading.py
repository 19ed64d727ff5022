"""Pipelines to folders and back, and every way in which that can fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowgression
from flowgression import ARFlowPipeline, InputError, SiTPipeline, load_pipeline, make_pipeline
from flowgression.sampling import folders

WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


def draw(pipe: Any) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        [1, "seven"], num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images


@pytest.fixture
def pipe(make_pipeline: Callable[..., Any], family: str) -> Any:
    return make_pipeline(family)


@pytest.fixture
def saved(make_pipeline: Callable[..., Any], tmp_path: Path) -> Path:
    make_pipeline("arflow").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    for loaded in (load_pipeline(tmp_path / "model"), type(pipe).from_pretrained(str(tmp_path / "model"))):
        assert type(loaded) is type(pipe)
        assert loaded.labels == pipe.labels
        assert loaded.transformer.config.sample_size == [6, 4]
        np.testing.assert_array_equal(draw(loaded), draw(pipe))


def test_saved_files(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    load_pipeline(tmp_path / "model").save_pretrained(tmp_path / "copy")
    for folder in (tmp_path / "model", tmp_path / "copy"):
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        assert files == ["model_index.json", "transformer/config.json", str(WEIGHTS)]
        index = json.loads((folder / "model_index.json").read_text())
        assert index["_class_name"] == type(pipe).__name__
        assert index["transformer"][0].startswith("flowgression.families.")
        assert index["id2label"]["0"] == "zero, nought"
        assert str(tmp_path) not in (folder / "model_index.json").read_text()
        assert str(tmp_path) not in (folder / "transformer/config.json").read_text()


def test_pickled_weights_where_they_are_asked_for(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(InputError, match=r"holds no \.safetensors file"):
        load_pipeline(tmp_path)
    np.testing.assert_array_equal(draw(load_pipeline(tmp_path, use_safetensors=False)), draw(pipe))
    file = tmp_path / "transformer" / "diffusion_pytorch_model.bin"
    torch.save({**torch.load(file), "more": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="the weights hold 'more'"):
        load_pipeline(tmp_path, use_safetensors=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(pipe: Any, tmp_path: Path, value: float) -> None:
    name, weight = next(iter(pipe.transformer.state_dict().items()))
    weight.flatten()[-1] = value
    pipe.save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "transformer"):
        with pytest.raises(InputError, match=f"the tensor '{name}' holds NaN or infinite numbers"):
            load_pipeline(place)


def test_a_pipeline_whose_class_was_elsewhere_when_it_was_saved(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["transformer"][0] = "flowgression.models.arflow.model"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(draw(load_pipeline(tmp_path)), draw(pipe))


def test_saving_into_a_folder_keeps_what_else_is_there(pipe: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    pipe.save_pretrained(tmp_path)
    with torch.no_grad():
        pipe.transformer.final_layer.linear.bias.add_(0.1)
    pipe.save_pretrained(tmp_path)
    np.testing.assert_array_equal(draw(load_pipeline(tmp_path)), draw(pipe))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model_index.json", "notes.txt", "transformer"]


def test_saving_onto_a_file(pipe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="it is a file"):
        pipe.save_pretrained(tmp_path / "file")


def test_builtin_names_come_first(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name of the package's own folder wins over a folder of that name in the current one."""
    (tmp_path / "tiny-digits").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "builtin_models", lambda: {"tiny-digits": saved})
    assert type(load_pipeline("tiny-digits")) is ARFlowPipeline
    assert type(ARFlowPipeline.from_pretrained("tiny-digits")) is ARFlowPipeline
    with pytest.raises(InputError, match="did you mean 'tiny-digits'"):
        load_pipeline("tiny-digit")


def test_shipped_models_load() -> None:
    for name in folders.builtin_models():
        pipe = load_pipeline(name)
        assert len(pipe.class_names) == pipe.transformer.config.num_classes
        if pipe.transformer.config.num_classes == 10:  # digits
            assert pipe.labels["seven"] == 7


def test_hub_names_go_to_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what was found is what is loaded."""
    requests: list[dict[str, Any]] = []

    def snapshot_download(name: str, **arguments: Any) -> str:
        requests.append({"name": name, **arguments})
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert type(load_pipeline("someone/model", revision="v1")) is ARFlowPipeline
    (asked,) = requests
    assert asked["name"] == "someone/model"
    assert asked["revision"] == "v1"
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["allow_patterns"])


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **arguments: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"no model 'someone/model'.*no route to host"):
        load_pipeline("someone/model")


def test_model_folder_alone(saved: Path, make_pipeline: Callable[..., Any]) -> None:
    pipe = load_pipeline(saved / "transformer")
    assert type(pipe) is ARFlowPipeline
    assert pipe.labels == {}
    labels, generator = [1, 2], torch.Generator
    images = [
        p(labels, num_inference_steps=2, generator=generator().manual_seed(0), output_type="np").images
        for p in (pipe, make_pipeline("arflow"))
    ]
    np.testing.assert_array_equal(*images)


def damage_truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def damage_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def damage_class(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def damage_width(folder: Path) -> None:
    config = json.loads((folder / "transformer/config.json").read_text())
    (folder / "transformer/config.json").write_text(json.dumps({**config, "hidden_size": 32}))


def damage_depth(folder: Path) -> None:
    config = json.loads((folder / "transformer/config.json").read_text())
    (folder / "transformer/config.json").write_text(json.dumps({**config, "depth": 1}))


def damage_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def damage_missing_config(folder: Path) -> None:
    (folder / "transformer/config.json").unlink()


def damage_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": WEIGHTS.name, "b": "other.safetensors"}}
    (folder / "transformer/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncated, "diffusion_pytorch_model.safetensors .* is truncated"),
        (damage_index, "model_index.json is not valid JSON"),
        (damage_class, "holds a StableDiffusionPipeline; this library loads ARFlowPipeline"),
        (damage_width, r"has shape \(.*16.*\), but config.json asks for \(.*32.*\)"),
        (damage_depth, r"the weights hold 'blocks\.1\..*', which the model of config.json does not have"),
        (damage_missing_weights, "holds no .safetensors file"),
        (damage_missing_config, "config.json is missing"),
        (damage_missing_shard, "lacks other.safetensors"),
    ],
)
def test_damaged_folders(saved: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(saved)
    with pytest.raises(InputError, match=message):
        load_pipeline(saved)


def test_pipeline_of_another_class(saved: Path) -> None:
    with pytest.raises(InputError, match="holds a ARFlowPipeline, not a SiTPipeline"):
        SiTPipeline.from_pretrained(saved)


def test_folders_of_something_else(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no model_index\.json: give a folder written by save_pretrained"):
        load_pipeline(tmp_path / "empty")
    with pytest.raises(InputError, match=f"did you mean {saved}"):
        load_pipeline(tmp_path)
    with pytest.raises(InputError, match="is a file; expected a model's folder"):
        load_pipeline(saved / WEIGHTS)
    with pytest.raises(InputError, match="neither built in nor a folder here"):
        load_pipeline(tmp_path / "nowhere")
    (saved / "transformer/config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match="holds a UNet2DModel"):
        load_pipeline(saved / "transformer")


def test_precision(saved: Path, make_pipeline: Callable[..., Any]) -> None:
    half = load_pipeline(saved, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    np.testing.assert_allclose(draw(half), draw(make_pipeline("arflow")), atol=0.1)


def test_make_pipeline_picks_the_class(make_model: Callable[..., Any], family: str) -> None:
    pipe = make_pipeline(make_model(family), id2label={7: "seven"})
    assert type(pipe).__name__ == {"arflow": "ARFlowPipeline", "sit": "SiTPipeline"}[family]
    assert pipe.get_label_ids(["seven"]) == [7]
    with pytest.raises(InputError, match="no pipeline for a Linear"):
        make_pipeline(torch.nn.Linear(1, 1))


def test_names_of_the_package() -> None:
    assert flowgression.ARFlowPipeline is ARFlowPipeline
    assert flowgression.load_pipeline is load_pipeline
