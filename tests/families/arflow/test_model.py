"""ARFlow against the released model, its published sizes, and its own invariants."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flowgression import ARFlow, InputError
from flowgression.families.arflow.released import load_released
from flowgression.layers import hybrid_attention as hybrid_attention_layer
from flowgression.models import build_model
from flowgression.ops.hybrid_linear.naive import hybrid_attention_naive
from flowgression.ops.hybrid_linear.recurrent import hybrid_attention_recurrent
from tests.families.golden import Golden

TINY = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 7,
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("arflow_dev")


@pytest.fixture
def released(golden: Golden) -> ARFlow:
    return load_released(golden.weights(), num_classes=10)


def noisy(golden: Golden) -> Tensor:
    t = golden["t"][..., None, None, None]
    return t * golden["x1"] + (1 - t) * golden["x0"]


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give the layers that start at zero something to say."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def tiny() -> ARFlow:
    return randomised(ARFlow(**TINY))  # type: ignore[misc]


class TestReleased:
    def test_configuration_is_inferred(self, golden: Golden, released: ARFlow) -> None:
        config = golden.json("config")
        assert released.config.sample_size == config["input_size"]
        for key in ("depth", "hidden_size", "num_heads", "patch_size", "in_channels", "num_classes", "learn_sigma"):
            assert released.config[key] == config[key], key

    def test_velocity_of_the_chunk_form(self, golden: Golden, released: ARFlow) -> None:
        out = released(noisy(golden), golden["t"], golden["y"])
        torch.testing.assert_close(out.velocity, golden["v"], rtol=0, atol=5e-6)

    def test_velocity_of_the_recurrent_form(self, golden: Golden, released: ARFlow) -> None:
        x, t, state, velocities = noisy(golden), golden["t"], None, []
        for i in range(x.shape[1]):
            out = released(x[:, i : i + 1], t[:, i : i + 1], golden["y"], state)
            state = out.state
            velocities.append(out.velocity)
        torch.testing.assert_close(torch.cat(velocities, 1), golden["v_recurrent"], rtol=0, atol=5e-6)

    def test_loss_and_gradient_norms(self, golden: Golden, released: ARFlow) -> None:
        velocity = released(noisy(golden), golden["t"], golden["y"]).velocity
        loss = (velocity - (golden["x1"] - golden["x0"])).square().mean()
        loss.backward()
        assert abs(loss.item() - golden["loss"].item()) < 5e-6
        norms = {name: p.grad.norm().item() for name, p in released.named_parameters() if p.grad is not None}
        expected = golden.json("grad_norms")
        assert norms.keys() == expected.keys()
        assert max(abs(norms[name] - expected[name]) for name in norms) < 5e-6

    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    def test_from_a_file(self, golden: Golden, tmp_path: Path, suffix: str) -> None:
        weights, path = golden.weights(), tmp_path / f"released{suffix}"
        if suffix == ".pt":
            torch.save({"model": {"x": torch.zeros(1)}, "ema": weights}, path)
        else:
            save_file(weights, path)
        out = load_released(path, num_classes=10)(noisy(golden), golden["t"], golden["y"])
        torch.testing.assert_close(out.velocity, golden["v"], rtol=0, atol=5e-6)

    def test_a_truncated_file_is_named(self, golden: Golden, tmp_path: Path) -> None:
        path = tmp_path / "released.safetensors"
        save_file(golden.weights(), path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match=r"cannot read .*released\.safetensors"):
            load_released(path)

    def test_another_model_is_refused(self, golden: Golden) -> None:
        with pytest.raises(InputError, match="not a released ARFlow checkpoint"):
            load_released(Golden("sit_dev").weights())
        with pytest.raises(InputError, match="it lacks"):
            load_released({"weight": torch.zeros(2)})


@pytest.mark.parametrize(
    ("preset", "count"),
    [("S/2", 34_643_744), ("B/2", 137_467_424), ("L/2", 483_301_408), ("XL/2", 712_445_216), ("XL/4", 712_546_688)],
)
def test_published_parameter_counts(preset: str, count: int) -> None:
    with torch.device("meta"):
        model = ARFlow.from_preset(preset)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("context", ["hybrid", "full", "linear", "none"])
@pytest.mark.parametrize("images", [1, 2, 9])
def test_recurrent_equals_chunk(context: str, images: int) -> None:
    model = randomised(ARFlow(**TINY, context=context)).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, images, 3, 8, 8, generator=generator, dtype=torch.float64)
    t = torch.rand(2, images, generator=generator, dtype=torch.float64).sort().values
    labels = torch.tensor([0, 7])
    whole = model(x, t, labels)
    state, parts = None, []
    for i in range(images):
        out = model(x[:, i : i + 1], t[:, i : i + 1], labels, None if context == "none" else state)
        state = out.state
        parts.append(out.velocity)
    torch.testing.assert_close(torch.cat(parts, 1), whole.velocity, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("context", ["hybrid", "linear"])
@pytest.mark.parametrize("implementation", [hybrid_attention_naive, hybrid_attention_recurrent])
def test_without_decay_all_agree(context: str, implementation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(ARFlow(**TINY, context=context, decay=False)).double()  # type: ignore[arg-type]
    assert not [name for name in model.state_dict() if "gt_proj" in name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
    t = torch.rand(2, 4, generator=generator, dtype=torch.float64).sort(dim=1).values
    expected = model(x, t, torch.tensor([0, 6]))
    state, velocities = model.new_state(2), []
    for i in range(4):  # as in sampling
        prepared = torch.stack([model.prepare(t[b, i : i + 1], torch.tensor([[0, 6][b]]))[0, 0] for b in range(2)])
        output = model(x[:, i : i + 1], state=state, prepared=prepared)
        state, velocities = output.state, [*velocities, output.velocity]
    torch.testing.assert_close(torch.cat(velocities, 1), expected.velocity, rtol=1e-10, atol=1e-10)

    def as_chunk(*args: Any, return_state: bool = True, **kwargs: Any) -> Any:
        return implementation(*args, **kwargs)

    monkeypatch.setattr(hybrid_attention_layer, "hybrid_attention", as_chunk)
    torch.testing.assert_close(model(x, t, torch.tensor([0, 6])).velocity, expected.velocity, rtol=1e-10, atol=1e-10)


def test_without_decay_the_state_is_the_sum_of_what_images_leave() -> None:
    attention = hybrid_attention_layer.HybridAttention(8, 2, decay=False).double()
    x = torch.randn(1, 3, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    read = attention.read(torch.zeros(1, 3, 1, 8, dtype=torch.float64))
    _, together = attention(x, read)
    alone = sum(attention(x[:, i : i + 1], read[:, i : i + 1])[1] for i in range(3))
    torch.testing.assert_close(together, alone)


def test_nothing_is_remembered_between_calls(tiny: ARFlow) -> None:
    x, t, labels = torch.randn(1, 2, 3, 8, 8), torch.tensor([[0.1, 0.5]]), torch.tensor([3])
    first = tiny(x, t, labels).velocity
    tiny(torch.randn(1, 2, 3, 8, 8), t, labels)
    assert torch.equal(tiny(x, t, labels).velocity, first)


def test_an_image_does_not_depend_on_the_other_sequences_of_the_batch(tiny: ARFlow) -> None:
    x, t = torch.randn(3, 2, 3, 8, 8), torch.rand(3, 2).sort().values
    labels = torch.tensor([1, 2, 3])
    alone = tiny(x[1:2], t[1:2], labels[1:2]).velocity
    torch.testing.assert_close(tiny(x, t, labels).velocity[1:2], alone, rtol=1e-5, atol=1e-5)


def test_a_new_model_predicts_zero_velocity() -> None:
    out = ARFlow(**TINY)(torch.randn(1, 2, 3, 8, 8), torch.rand(1, 2), torch.tensor([0]))
    assert out.velocity.abs().max() == 0


def test_rectangular_images() -> None:
    model = randomised(ARFlow(**{**TINY, "sample_size": (4, 12)}))
    out = model(torch.randn(1, 2, 3, 4, 12), torch.rand(1, 2), torch.tensor([0]))
    assert out.velocity.shape == (1, 2, 3, 4, 12)


def test_gradient_checkpointing_changes_nothing(tiny: ARFlow) -> None:
    x, t, labels = torch.randn(1, 3, 3, 8, 8), torch.rand(1, 3).sort().values, torch.tensor([2])
    gradients = []
    for enable in (False, True):
        if enable:
            tiny.enable_gradient_checkpointing()
        tiny.zero_grad()
        tiny(x, t, labels).velocity.square().mean().backward()
        gradients.append([p.grad.clone() for p in tiny.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_save_and_load(tiny: ARFlow, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    loaded = ARFlow.from_pretrained(tmp_path)
    x, t, labels = torch.randn(1, 2, 3, 8, 8), torch.rand(1, 2), torch.tensor([2])
    assert torch.equal(loaded(x, t, labels).velocity, tiny(x, t, labels).velocity)
    assert loaded.config.context == "hybrid"


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"context": "full", "decay": False}, "no decay"),
            ({"hidden_size": 36, "num_heads": 5}, "hidden_size 36 is not divisible by num_heads 5"),
            ({"sample_size": 1}, "smaller than one patch"),
            ({"sample_size": 9}, "not divisible by patch_size 2"),
            ({"hidden_size": 34}, "divisible by 4"),
            ({"context": "fulll"}, "did you mean 'full'"),
            ({"depth": 0}, "depth is 0"),
        ],
    )
    def test_configuration(self, change: dict, message: str) -> None:
        with pytest.raises(InputError, match=message):
            ARFlow(**{**TINY, **change})

    def test_unknown_preset(self) -> None:
        with pytest.raises(InputError, match="did you mean 'XL/2'"):
            ARFlow.from_preset("XL2")

    def test_unknown_argument(self) -> None:
        with pytest.raises(InputError, match="did you mean 'hidden_size'"):
            build_model("arflow", hiden_size=64)

    def test_unknown_family(self) -> None:
        with pytest.raises(InputError, match="did you mean 'arflow'"):
            build_model("arfow")

    def test_shapes(self, tiny: ARFlow) -> None:
        x, t, labels = torch.randn(1, 2, 3, 8, 8), torch.rand(1, 2), torch.tensor([0])
        with pytest.raises(InputError, match=r"x must be \[B, S, 3, 8, 8\]"):
            tiny(x[..., :4], t, labels)
        with pytest.raises(InputError, match="S = 0"):
            tiny(x[:, :0], t[:, :0], labels)
        with pytest.raises(InputError, match="t must be"):
            tiny(x, t[:, :1], labels)
        with pytest.raises(InputError, match="1 entries"):
            tiny(x, t, labels, [None])
