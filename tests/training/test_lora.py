"""Low-rank adapters: what is frozen, merged and saved, and that a run with them resumes exactly."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flowgression.cli.main import main
from flowgression.errors import InputError
from flowgression.layers.lora import LoRALinear, add_lora, lora_tensors, merge_tensors, merged_model, without_lora
from flowgression.registry import FAMILIES
from flowgression.sampling import load_adapter, load_pipeline, make_pipeline
from flowgression.training import (
    LoraConfig,
    ModelConfig,
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
    changed = {f"{name.removesuffix('.lora_A')}.weight" for name in adapters if name.endswith(".lora_A")}
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
