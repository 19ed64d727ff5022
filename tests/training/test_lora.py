"""Low-rank adapters: what is frozen, merged and saved, and that a run with them resumes exactly."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from flowgression import InputError
from flowgression.classes import Classes
from flowgression.cli.main import main
from flowgression.data import DataConfig, load_mnist
from flowgression.layers.embeddings import label_places
from flowgression.layers.lora import LoRALinear, add_lora, lora_tensors, merge_tensors, merged_model, without_lora
from flowgression.models import FAMILIES
from flowgression.sampling import load_adapter, load_pipeline, make_pipeline
from flowgression.training import (
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    find_gpu,
    make_plan,
    pretrained,
    train,
)
from flowgression.training.objectives import TrainingModule
from flowgression.training.randomness import StepRandomness
from flowgression.training.trainer import Trainer
from tests.families.cases import FAMILY_CASES, SIDE


def adapted(family: str) -> torch.nn.Module:
    model = FAMILY_CASES[family].model()
    torch.manual_seed(1)
    add_lora(model, rank=3, alpha=6.0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith(".lora_B"):
                tensor.copy_(torch.randn_like(tensor) / 10)
    return model


def image(model: torch.nn.Module) -> torch.Tensor:
    """Two samples of few steps, latents."""
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    pipe = make_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe([0, 1], num_inference_steps=2, guidance_scale=1.5, generator=generators, output_type="latent").images


@pytest.mark.parametrize("family", sorted(FAMILY_CASES))
def test_merged_equals_unmerged(family: str) -> None:
    plain, model = FAMILY_CASES[family].model(), adapted(family)
    merged = merged_model(model)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert not any(isinstance(part, LoRALinear) for part in merged.modules())
    unmerged, found = image(model), image(merged)
    assert (image(plain) - unmerged).abs().max() > 1e-3  # the adapters do something
    torch.testing.assert_close(found, unmerged, rtol=1e-5, atol=1e-5 * float(unmerged.abs().max()))


@pytest.mark.parametrize("family", sorted(FAMILY_CASES))
def test_the_start_is_the_model_itself_and_only_adapters_are_trained(family: str) -> None:
    plain, model = FAMILY_CASES[family].model(), FAMILY_CASES[family].model()
    add_lora(model, rank=2, alpha=2.0)
    assert torch.equal(image(plain), image(model))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == lora_tensors(model.state_dict()).keys()
    assert without_lora(model.state_dict()).keys() == plain.state_dict().keys()


def test_rank_is_at_most_that_of_the_layer_and_wrong_input_is_refused() -> None:
    layer = LoRALinear(torch.nn.Linear(6, 2), rank=8, alpha=8.0)
    assert layer.lora_A.shape == (2, 6)
    with pytest.raises(InputError, match="must be 1 or more, not 0"):
        add_lora(FAMILY_CASES["sit"].model(), 0, 1.0)
    with pytest.raises(InputError, match="no linear layers in blocks"):
        add_lora(torch.nn.Sequential(torch.nn.Linear(2, 2)), 1, 1.0)
    weights, a = {"a.weight": torch.zeros(2, 2)}, torch.zeros(1, 2)
    with pytest.raises(InputError, match="fits no layer"):
        merge_tensors(weights, {"b.lora_A": a, "b.lora_B": torch.zeros(2, 1)}, 1.0)
    with pytest.raises(InputError, match=r"for weights \(3, 2\), but this model's are \(2, 2\)"):
        merge_tensors(weights, {"a.lora_A": a, "a.lora_B": torch.zeros(3, 1)}, 1.0)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_gives_the_same_loss_and_gradients(backend: str) -> None:
    def gradients(compiled: bool) -> dict[str, torch.Tensor]:
        model = adapted("sit").train()
        if compiled:
            model.compile(backend=backend)
        module = TrainingModule(model, FAMILIES["sit"].objective_function)
        images = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        output = module(images, torch.tensor([0, 1, 0, 1]), StepRandomness(0, 0, "cpu", 0, 1))
        output.loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return {"loss": output.loss.detach(), **found}

    plain, compiled = gradients(False), gradients(True)
    assert plain.keys() == compiled.keys()
    for name in plain:
        scale = float(plain[name].abs().max())
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-4, atol=1e-5 * max(scale, 1.0))


@pytest.fixture
def lora_config(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., TrainConfig]:
    """A fine-tuning of a tiny model that was trained for two steps."""
    base = train(tiny_config(family="sit", max_steps=2, out=str(tmp_path / "base"))).pipeline

    def make(**fields: object) -> TrainConfig:
        model = ModelConfig(family="sit", pretrained=str(base))
        settings = {"model": model, "lora": LoraConfig(rank=2, alpha=4.0)} | fields
        return tiny_config(family="sit", **settings)

    return make


def test_the_model_that_is_tuned_is_loaded_once(
    lora_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = pretrained.load_pipeline
    monkeypatch.setattr(pretrained, "load_pipeline", lambda name: loaded.append(name) or load(name))
    with Trainer(lora_config()):
        assert len(loaded) == 1


def test_a_run_leaves_a_merged_pipeline_and_an_adapter(lora_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = lora_config()
    result = train(config)
    base, tuned = load_pipeline(config.model.pretrained), load_pipeline(result.pipeline)
    with_adapter = load_pipeline(tmp_path / "run" / "adapter")
    assert with_adapter.labels == tuned.labels
    weights = [pipe.transformer.state_dict() for pipe in (base, tuned, with_adapter)]
    info = json.loads((tmp_path / "run" / "adapter" / "adapter.json").read_text())
    assert (info["rank"], info["alpha"], info["class"]) == (2, 4.0, "SiT")
    adapters = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")
    changed = {f"{name.rpartition('.')[0]}.weight" for name in adapters}
    assert base.transformer.label_table in changed
    for name in weights[0]:
        assert torch.equal(weights[1][name], weights[2][name])
        assert torch.equal(weights[0][name], weights[1][name]) == (name not in changed)
    average = load_pipeline(result.checkpoint / "ema").transformer.state_dict()
    assert all(torch.equal(average[name], weights[1][name]) for name in average)
    arguments = ["--num-images", "2", "--num-inference-steps", "2", "--out", str(tmp_path / "two.png")]
    load_adapter(with_adapter, tmp_path / "run" / "adapter", weight=-1.0)
    for name, value in with_adapter.transformer.state_dict().items():
        torch.testing.assert_close(value, weights[0][name], rtol=0, atol=1e-6)  # W rounded twice, |W| below 4
    assert main(["sample", "--model", str(tmp_path / "run" / "adapter"), *arguments]) == 0


def test_a_resumed_run_is_the_unbroken_one(lora_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    constant = {"schedule": ScheduleConfig(name="constant")}  # a cosine would depend on max_steps
    whole = train(lora_config(out=str(tmp_path / "whole"), **constant))
    train(lora_config(out=str(tmp_path / "parts"), max_steps=3, **constant))
    parts = train(lora_config(out=str(tmp_path / "parts"), **constant), resume=True)
    for file in ("adapters.safetensors", "optimizer.safetensors", "ema/diffusion_pytorch_model.safetensors"):
        first, second = load_file(whole.checkpoint / file), load_file(parts.checkpoint / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_plan_of_a_run_counts_moments_of_adapters_alone(lora_config: Callable[..., TrainConfig]) -> None:
    config = lora_config()
    model = load_pipeline(config.model.pretrained).transformer
    add_lora(model, 2, 4.0)
    adapters = sum(tensor.numel() for tensor in lora_tensors(model.state_dict()).values())
    plan = make_plan(config, find_gpu("a100"), 1)
    assert plan.memory["optimiser (two moments)"] == 2 * 4 * adapters
    assert plan.memory["weights"] == 4 * sum(parameter.numel() for parameter in model.parameters())


def test_what_cannot_work_is_refused(
    lora_config: Callable[..., TrainConfig], tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"name it with model\.pretrained"):
        tiny_config(family="sit", lora=LoraConfig(rank=2))
    with pytest.raises(InputError, match="cannot be combined"):
        lora_config(parallelism="fsdp2")
    with pytest.raises(InputError, match=r"lora.rank=-1 must be"):
        LoraConfig(rank=-1)
    train(lora_config(max_steps=3))
    with pytest.raises(InputError, match="another rank"):
        train(lora_config(lora=LoraConfig(rank=3)), resume=True, allow_changes=True)
    adapter = tmp_path / "run" / "adapter"
    with pytest.raises(InputError, match="adapter of a SiT; this pipeline has a ARFlow"):
        load_adapter(load_pipeline("arflow-mnist"), adapter)
    with pytest.raises(InputError, match=r"fits no layer|for weights"):
        load_adapter(load_pipeline("sit-mnist"), adapter)
    with pytest.raises(InputError, match=r"holds no adapter\.json"):
        load_adapter(load_pipeline("sit-mnist"), tmp_path)
    (adapter / "adapter.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="copy the adapter again"):
        load_adapter(load_pipeline("sit-mnist"), adapter)


def folders_of_digits(root: Path, names: dict[str, int], size: int = 28) -> str:
    """Ten digits of each class in a folder of its own; names: folder -> digit."""
    images, labels = load_mnist("test")
    for name, digit in names.items():
        (root / name).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == digit)[:10]):
            Image.fromarray(images[index]).resize((size, size)).save(root / name / f"{number}.png")
    return str(root)


@pytest.mark.parametrize("rank", [0, 2])
def test_label_rows_go_by_name(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, rank: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders in alphabetical order, one class less and two more: rows keep the meaning that the base gave them."""
    base = train(tiny_config(family="sit", max_steps=2, out=str(tmp_path / "base"))).pipeline
    names = {"two": 2, "one": 1, "cat, dog": 3, "eel": 4}
    data = DataConfig(path=folders_of_digits(tmp_path / "data", names))
    optimizer = OptimizerConfig(lr=1e-12, weight_decay=0.0)  # so that the start can be read off the end
    model, lora = ModelConfig(family="sit", pretrained=str(base)), LoraConfig(rank=rank)
    config = tiny_config(
        family="sit", data=data, model=model, lora=lora, optimizer=optimizer, max_steps=3, batch_size=4
    )
    result = train(config)
    expected = "Label rows of {}: 2 taken over by name (one, two), 2 new from the mean of all (cat, dog, eel)."
    assert expected.format(base) in " ".join(capsys.readouterr().out.split())
    before, after = load_pipeline(base), load_pipeline(result.pipeline)
    assert after.class_names == ["cat, dog", "eel", "one", "two"]
    assert after.class_ids(["two", "cat, dog"]) == [3, 0]
    rows, table = (pipe.transformer.state_dict()[pipe.transformer.label_table] for pipe in (after, before))
    mean = table[:10].mean(0)
    torch.testing.assert_close(rows, torch.stack([mean, mean, table[1], table[2], table[10]]), rtol=0, atol=1e-7)
    if rank:
        folder = tmp_path / "run" / "adapter"
        again = load_pipeline(folder)
        assert again.class_names == after.class_names
        for name, tensor in after.transformer.state_dict().items():
            assert torch.equal(again.transformer.state_dict()[name], tensor)
        with pytest.raises(InputError, match="adapter with classes of its own"):
            load_adapter(before, folder)
        assert load_pipeline(folder, dtype=torch.float16).transformer.dtype == torch.float16
    resumed = train(replace(config, max_steps=4), resume=True)
    assert load_pipeline(resumed.pipeline).class_names == after.class_names


def test_new_classes_are_learned_by_adapters(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    base = train(tiny_config(family="sit", max_steps=2, out=str(tmp_path / "base"))).pipeline
    data = DataConfig(path=folders_of_digits(tmp_path / "data", {"cat": 3, "eel": 4}))
    model = ModelConfig(family="sit", pretrained=str(base))
    result = train(tiny_config(family="sit", data=data, model=model, lora=LoraConfig(rank=2), batch_size=4))
    transformer = load_pipeline(result.pipeline).transformer
    rows = transformer.state_dict()[transformer.label_table]
    assert (rows[0] - rows[1]).abs().max() > 1e-4


def test_an_adapter_is_not_merged_into_other_weights(lora_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = lora_config()
    train(config)
    load_pipeline(tmp_path / "run" / "adapter")
    other = load_pipeline(config.model.pretrained)
    with torch.no_grad():
        other.transformer.x_embedder.proj.bias[0] += 1
    other.save_pretrained(config.model.pretrained)
    with pytest.raises(InputError, match="made for other weights than are now in"):
        load_pipeline(tmp_path / "run" / "adapter")
    load_adapter(other, tmp_path / "run" / "adapter")  # whoever asks for it


def test_a_model_without_names_keeps_its_rows() -> None:
    known, wanted = Classes.numbered(3), Classes.named(["b", "a", "c"])
    assert label_places(known, wanted) == [0, 1, 2]
    assert label_places(known, Classes.named(["a", "b"])) == [None, None]
