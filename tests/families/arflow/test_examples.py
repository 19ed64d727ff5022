"""Examples that ARFlow reads before the first denoising step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from flowgression import InputError
from flowgression.families.arflow.examples import as_latents, times_of
from flowgression.families.arflow.sampling import sample
from tests.families.arflow.test_sampling import LABELS, Recorder

NULL = 8


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def z() -> Tensor:
    return normal(3, 1, 6, 4)


@pytest.fixture
def shown() -> dict[str, Tensor]:
    return {"examples": normal(3, 2, 1, 6, 4, seed=1), "example_noise": normal(3, 2, 1, 6, 4, seed=2)}


@torch.no_grad()
@pytest.mark.parametrize("context", ["hybrid", "linear", "full"])
@pytest.mark.parametrize("history", ["all", "none", "every:2", "last:2"])
def test_they_are_the_first_images_of_the_sequence(
    make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor], context: str, history: str
) -> None:
    model = make_model("arflow", context=context)
    times = [0.25, 1.0]
    level = torch.tensor(times)[:, None, None, None]
    first = level * shown["examples"] + (1 - level) * shown["example_noise"]
    read = {"all": range, "none": lambda step: [], "every:2": lambda step: range(0, step, 2)}
    read["last:2"] = lambda step: range(max(step - 2, 0), step)
    xs, grid = [z], torch.arange(4) / 4
    for step in range(4):
        steps = [*read[history](step), step]
        images = torch.cat([first, torch.stack([xs[index] for index in steps], dim=1)], dim=1)
        t = torch.cat([torch.tensor(times), grid[steps]]).expand(3, -1)
        xs.append(xs[-1] + model(images, t, LABELS).velocity[:, -1] / 4)
    found = sample(model, z, LABELS, num_inference_steps=4, example_times=times, history=history, **shown)
    torch.testing.assert_close(found.sample, xs[-1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_guidance_shows_them_to_the_class_half_alone(
    make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor]
) -> None:
    model = make_model("arflow")
    null = torch.full_like(LABELS, NULL)
    state = model(shown["examples"], torch.ones(3, 2), null).state  # no label at all: guided by the examples alone
    x, null_state = z, None
    for step in range(4):
        t = torch.full((3, 1), step / 4)
        own, unconditional = model(x[:, None], t, null, state), model(x[:, None], t, null, null_state)
        state, null_state = own.state, unconditional.state
        v, v_null = own.velocity[:, 0], unconditional.velocity[:, 0]
        x = x + (v_null + 2.0 * (v - v_null)) / 4
    settings = {"num_inference_steps": 4, "guidance_scale": 2.0, "example_times": [1.0]}
    torch.testing.assert_close(sample(model, z, null, **settings, **shown).sample, x, atol=1e-5, rtol=0)
    assert (sample(model, z, null, num_inference_steps=4, guidance_scale=2.0).sample - x).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("label", "example"), [(1.5, 3.0), (1.0, 3.0), (1.5, 1.0), (2.0, 2.0), (1.0, 1.0), (1.0, 0.0)])
def test_label_and_examples_are_guided_apart(
    make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor], label: float, example: float
) -> None:
    """v_null + label (v_label - v_null) + example (v_cond - v_label), each with a state of its own."""
    model = make_model("arflow")
    null, labels = torch.full_like(LABELS, NULL), torch.tensor([[1, 2], [3, 4], [0, 7]])
    rows = {"cond": LABELS, "label": LABELS, "null": null}
    states = {"cond": model(shown["examples"], torch.ones(3, 2), labels).state, "label": None, "null": None}
    x = z
    for step in range(4):
        v = {}
        for name, ids in rows.items():
            output = model(x[:, None], torch.full((3, 1), step / 4), ids, states[name])
            v[name], states[name] = output.velocity[:, 0], output.state
        x = x + (v["null"] + label * (v["label"] - v["null"]) + example * (v["cond"] - v["label"])) / 4
    settings = {"guidance_scale": label, "example_guidance_scale": example, "example_times": [1.0]}
    found = sample(model, z, LABELS, num_inference_steps=4, example_labels=labels, **settings, **shown)
    torch.testing.assert_close(found.sample, x, atol=2e-5, rtol=0)
    assert len(found.state[0]) == 3 * (1 + (label != example) + (label != 1))  # no row that does not count


@torch.no_grad()
def test_examples_have_labels_of_their_own(make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor]) -> None:
    model = make_model("arflow", clean=0.25)
    settings: dict[str, Any] = {"num_inference_steps": 2, "history": "none", **shown}
    each = torch.tensor([[1, 2], [3, 4], [0, 7]])
    found = sample(model, z, LABELS, example_labels=each, **settings).sample
    state = model(shown["examples"], torch.ones(3, 2), each).state  # trained with clean images: read without noise
    x = z
    for step in range(2):
        x = x + model(x[:, None], torch.full((3, 1), step / 2), LABELS, state).velocity[:, 0] / 2
    torch.testing.assert_close(found, x, atol=1e-5, rtol=0)
    same = sample(model, z, LABELS, example_labels=LABELS, **settings).sample
    torch.testing.assert_close(same, sample(model, z, LABELS, **settings).sample)
    assert (found - same).abs().max() > 1e-3
    for wrong in (each[:2], each.float(), each + 8, each[:, :1]):
        with pytest.raises(InputError, match="example_labels"):
            sample(model, z, LABELS, example_labels=wrong, **settings)
    for option in ({"example_labels": each}, {"example_guidance_scale": 2.0}):
        with pytest.raises(InputError, match="of examples, and there are none"):
            sample(model, z, LABELS, **option)


def test_half_precision(make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor]) -> None:
    whole, half = (
        sample(model, z, LABELS, num_inference_steps=8, guidance_scale=2.0, **shown).sample
        for model in (make_model("arflow"), make_model("arflow").to(torch.bfloat16))
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.1, rtol=0)  # as in test_arflow


def test_times() -> None:
    assert times_of(None, 4) == [0.25, 0.5, 0.75, 1.0]
    assert times_of([0.5], 3) == [0.5] * 3
    assert times_of([0.5, 0.1], 2) == [0.5, 0.1]
    assert times_of(None, 2, clean=True) == [1.0, 1.0]
    for wrong in ([0.5, 0.1], [1.5], [float("nan")], []):
        with pytest.raises(InputError, match=r"example_times must be one time in \[0, 1\] for all 3 examples"):
            times_of(wrong, 3)


def test_kinds_of_images_are_one(make_model: Callable[..., Any]) -> None:
    colour = make_model("arflow", in_channels=3)
    levels = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    expected = torch.from_numpy(levels).permute(0, 3, 1, 2)[None] / 127.5 - 1
    pictures = [Image.fromarray(each) for each in levels]
    tensor = torch.from_numpy(levels).permute(0, 3, 1, 2)
    floats = levels.astype(np.float64) / 255
    for kind in (pictures, levels, floats, tensor, tensor / 255, list(tensor), list(floats)):
        torch.testing.assert_close(as_latents(kind, colour, None), expected, atol=1e-6, rtol=0)
    assert as_latents([pictures[:2], pictures[2:4]], colour, None).shape == (2, 2, 3, 6, 4)
    assert as_latents(tensor[None].expand(2, -1, -1, -1, -1), colour, None).shape == (2, 5, 3, 6, 4)
    assert as_latents(pictures[0].resize((9, 9)), colour, None).shape == (1, 1, 3, 6, 4)
    assert as_latents(pictures[0], make_model("arflow"), None).shape == (1, 1, 1, 6, 4)


def test_the_autoencoder_encodes_them(make_pipeline: Callable[..., Any], make_model: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=2,
        scaling_factor=0.5,
        shift_factor=0.25,
    )
    images = torch.rand(3, 3, 12, 8, generator=torch.Generator().manual_seed(1))
    latents = as_latents(images, make_model("arflow", in_channels=2), vae)
    mean = vae.encode(2 * images - 1).latent_dist.mean
    torch.testing.assert_close(latents, (mean.detach()[None] - 0.25) * 0.5)
    with pytest.raises(InputError, match="this pipeline has no autoencoder"):
        make_pipeline("arflow", in_channels=2)(1, examples=images, output_type="latent")


SETTINGS: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent", "guidance_scale": 2.0}


def test_an_image_does_not_depend_on_its_batch(make_pipeline: Callable[..., Any]) -> None:
    pipe = make_pipeline("arflow")
    examples = normal(3, 2, 1, 6, 4).sigmoid()
    together = pipe(examples=examples, generator=seeded(0, 1, 2), example_times=[0.5], **SETTINGS).images
    for row in range(3):
        alone = pipe(examples=examples[row], generator=seeded(row), example_times=[0.5], **SETTINGS).images
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
    again = pipe(NULL, examples=examples[0], generator=seeded(0), example_times=[0.5], **SETTINGS).images
    torch.testing.assert_close(again[0], together[0], atol=1e-5, rtol=0)
    other = pipe(examples=examples[1], generator=seeded(0), example_times=[0.5], **SETTINGS).images
    assert (other[0] - together[0]).abs().max() > 1e-3


def test_how_many_images(make_pipeline: Callable[..., Any]) -> None:
    pipe = make_pipeline("arflow")
    one = torch.rand(2, 1, 6, 4)
    assert len(pipe(examples=one, **SETTINGS).images) == 1
    assert len(pipe(examples=one, num_images=3, **SETTINGS).images) == 3
    assert len(pipe(examples=one, generator=seeded(1, 2), **SETTINGS).images) == 2
    assert len(pipe(examples=one, latents=normal(4, 1, 6, 4), **SETTINGS).images) == 4
    assert len(pipe([1, "two"], examples=one, **SETTINGS).images) == 2
    for wrong in ({"class_labels": [1, 2], "num_images": 3}, {"generator": seeded(1, 2), "num_images": 3}):
        with pytest.raises(InputError, match="all must agree"):
            pipe(examples=one, **SETTINGS, **wrong)
    with pytest.raises(InputError, match="all must agree"):
        pipe([1, 2, 3], examples=torch.rand(2, 2, 1, 6, 4))


def test_labels_of_examples_by_name(make_pipeline: Callable[..., Any]) -> None:
    pipe = make_pipeline("arflow")
    examples = normal(2, 1, 6, 4).sigmoid()

    def draw(labels: Any) -> Tensor:
        return pipe([1, 5], examples=examples, example_labels=labels, generator=seeded(0, 1), **SETTINGS).images

    for same in ([2, 3], ["two", 3], np.array([2, 3]), [[2, 3], [2, 3]]):
        assert torch.equal(draw(torch.tensor([2, 3])), draw(same))
    assert (draw([2, 3]) - draw([3, 2])).abs().max() > 1e-3
    for wrong in ([2], [[2, 3]] * 3, [[2], [3]]):
        with pytest.raises(InputError, match="example_labels must be 2 labels"):
            draw(wrong)
    with pytest.raises(InputError, match="unknown class name 'twp'"):
        draw(["twp", 3])
    with pytest.raises(InputError, match="example_labels are of examples"):
        pipe([1], example_labels=[2], **SETTINGS)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (torch.rand(2, 1, 6, 5), r"examples must be images of 1 x 6 x 4, \[K, ...\] or \[B, K, ...\]"),
        (torch.rand(0, 1, 6, 4), "with K >= 1"),
        (torch.rand(1, 6, 4), "a shape of"),
        (torch.rand(2, 1, 6, 4) - 0.5, r"floats in \[0, 1\], or uint8"),
        (torch.full((2, 1, 6, 4), float("nan")), r"floats in \[0, 1\]"),
        ("three.png", "must be images .* not str"),
        ([], "must be images .* not list"),
        ([[Image.new("L", (4, 6))], [Image.new("L", (4, 6))] * 2], "equally many for each sample"),
    ],
)
def test_what_is_no_example(make_pipeline: Callable[..., Any], examples: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_pipeline("arflow")(1, examples=examples)


def test_where_examples_make_no_sense(
    make_pipeline: Callable[..., Any], make_model: Callable[..., Any], z: Tensor, shown: dict[str, Tensor]
) -> None:
    cases = [
        ({"context": "none"}, {}, "has context='none': it reads no other images"),
        ({"sequence_length": 1}, {}, "trained on single images .* reads no other images"),
        ({"context": "full"}, {"guidance_scale": 2.0}, "null half reads no examples; set guidance_scale=1"),
        ({}, {"solver": "dopri5", "history": "none"}, "'dopri5' hands on no state, which holds the examples"),
        ({}, {"example_times": [0.1, 0.2, 0.3]}, "one time in .* for all 2 examples"),
        ({}, {"example_noise": None}, "examples need example_noise"),
        ({}, {"example_noise": torch.zeros(3, 1, 1, 6, 4)}, "examples need example_noise: .* of the same shape"),
        ({}, {"examples": torch.zeros(2, 1, 1, 6, 4)}, r"examples must be \[3, K, 1, 6, 4\] with K >= 1"),
        ({}, {"examples": None, "example_noise": None, "example_times": [1.0]}, "is of examples, and there are none"),
    ]
    for model, settings, message in cases:
        recorder = Recorder(make_model("arflow", **model))
        with pytest.raises(InputError, match=message):
            sample(recorder, z, LABELS, **{**shown, **settings})
        assert not recorder.calls
    with pytest.raises(InputError, match="give class_labels, one for each image"):
        make_pipeline("arflow")()
    with pytest.raises(InputError, match=r"without a null label .* give class_labels beside examples"):
        make_pipeline("arflow", class_dropout_prob=0.0)(examples=torch.rand(2, 1, 6, 4), guidance_scale=1.0)
    with pytest.raises(InputError, match="a SiT reads no image beside the one it draws, so no examples"):
        make_pipeline("sit")(1, examples=torch.rand(2, 1, 6, 4))
