"""What is drawn: the pictures of the pipelines, step by step."""

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from flowgression import ARFlow, InputError, make_pipeline
from flowgression.sampling.noise import image_seeds
from flowgression.web.arrays import decode, encode
from flowgression.web.frames import draw
from flowgression.web.models import Served, describe
from flowgression.web.request import read_request
from tests.web.conftest import Answer

Ask = Callable[..., Answer]
BASE = {"class_label": 1, "seed": 3, "num_inference_steps": 4, "guidance_scale": 2.0}


def own_generator() -> list[torch.Generator]:
    """That of the first picture of `flowgression sample --seed 3`."""
    return [torch.Generator().manual_seed(image_seeds(torch.Generator().manual_seed(3), 1)[0])]


def frames_of(models: dict[str, Served], **request: Any) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    draw(read_request({**BASE, **request}, models), frames.append)
    return frames


def array(value: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value["data"]), "<f4").reshape(value["shape"])


def pipeline_image(served: Served, **settings: Any) -> np.ndarray:
    """[C,H,W] in [0, 1] of the pipeline with the generator of `flowgression sample --seed 3`."""
    generators = own_generator()
    found = served.pipe(
        [1], generator=generators, num_inference_steps=4, guidance_scale=2.0, output_type="pt", **settings
    )
    return found.images[0].numpy()


@pytest.mark.parametrize("name", ["a", "f"])
@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint"])
def test_the_last_frame_is_the_pipelines_picture(models: dict[str, Served], name: str, solver: str) -> None:
    frames = frames_of(models, model=name, solver=solver)
    scales = 3 if name == "f" else 1
    assert len(frames) == 5 * scales == frames[0]["total"]
    assert [frame["index"] for frame in frames] == list(range(5 * scales))
    assert [frame["done"] for frame in frames] == [False] * (5 * scales - 1) + [True]
    assert [frame["t"] for frame in frames] == pytest.approx([0, 0.25, 0.5, 0.75, 1] * scales)
    assert [frame.get("scale") for frame in frames[::5]] == ([0, 1, 2] if name == "f" else [None])
    shown = (array(frames[-1]["x"]) / 2 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, pipeline_image(models[name], solver=solver), atol=1e-5)


@pytest.mark.parametrize("name", ["a", "f"])
def test_frames_are_the_walk(models: dict[str, Served], name: str) -> None:
    frames = frames_of(models, model=name)
    for this, following in pairwise(frames):
        x, v, t = array(this["x"]), array(this["velocity"]), this["t"]
        np.testing.assert_allclose(array(this["predicted"]), x + (1 - t) * v, atol=1e-6)
        if t < 1:
            np.testing.assert_allclose(array(following["x"]), x + 0.25 * v, atol=1e-5)


def test_the_state_follows_from_the_one_before_by_its_decay(models: dict[str, Served]) -> None:
    """In the first layer, whose input does not depend on it: exp(decay) times the state, and what an empty one gets."""
    before, frame = frames_of(models, model="a")[1:3]
    assert frame["state"]["shape"] == [2, 2, 8, 8]
    decay = array(frame["state"]["decay"])
    assert decay.shape == (2, 2)
    model, x = models["a"].pipe.transformer, torch.from_numpy(array(frame["x"]).copy())
    with torch.no_grad():
        fresh = model(x[None, None], torch.tensor([[frame["t"]]]), torch.tensor([1]), None).state[0][0].numpy()
    kept = np.exp(decay[0])[:, None, None] * array(before["state"]["values"])[0]
    np.testing.assert_allclose(array(frame["state"]["values"])[0], kept + fresh, atol=1e-5)


def test_forgetting(models: dict[str, Served]) -> None:
    """From step k on as a model that has seen nothing; before, as ever."""
    usual, forgetful = frames_of(models, model="a"), frames_of(models, model="a", history={"forget_from": 2})
    for step, (one, other) in enumerate(zip(usual, forgetful, strict=True)):
        same = array(one["velocity"]).tolist() == array(other["velocity"]).tolist()
        assert same == (step < 2)
    model = models["a"].pipe.transformer
    x = torch.from_numpy(array(forgetful[3]["x"]).copy())[None].repeat(2, 1, 1, 1)
    with torch.no_grad():
        v = model(x[:, None], torch.full((2, 1), 0.75), torch.tensor([1, 4]), None).velocity[:, 0]
    guided = v[1] + 2 * (v[0] - v[1])
    np.testing.assert_allclose(array(forgetful[3]["velocity"]), guided.numpy(), atol=1e-5)


def test_the_past_of_another_class(models: dict[str, Served]) -> None:
    """Its own class's past changes nothing; another's does, from the second step on."""
    usual = frames_of(models, model="a")
    own = frames_of(models, model="a", history={"class_label": 1})
    other = frames_of(models, model="a", history={"class_label": 2})
    for one, two in zip(usual, own, strict=True):
        np.testing.assert_allclose(array(one["x"]), array(two["x"]), atol=1e-6)
    assert array(usual[0]["velocity"]).tolist() == array(other[0]["velocity"]).tolist()
    assert np.abs(array(usual[1]["velocity"]) - array(other[1]["velocity"])).max() > 1e-6


def test_a_drawing_is_finished_from_its_time(models: dict[str, Served]) -> None:
    drawing = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    frames = frames_of(models, model="a", start={"x": encode(drawing), "t": 0.4})
    z = models["a"].pipe.starting_noise(
        [torch.Generator().manual_seed(image_seeds(torch.Generator().manual_seed(3), 1)[0])], None
    )
    np.testing.assert_allclose(array(frames[0]["x"]), (0.6 * z + 0.4 * drawing)[0].numpy(), atol=1e-6)
    assert [frame["t"] for frame in frames] == pytest.approx([0.4, 0.55, 0.7, 0.85, 1])


def test_given_maps_are_kept(models: dict[str, Served]) -> None:
    coarse = torch.linspace(-1, 1, 4).reshape(1, 2, 2)
    frames = frames_of(models, model="f", maps=[encode(coarse)])
    assert [frame["scale"] for frame in frames] == [1] * 5 + [2] * 5
    other = frames_of(models, model="f", maps=[encode(-coarse)])
    assert array(frames[0]["x"]).tolist() == array(other[0]["x"]).tolist()  # the same noise
    assert np.abs(array(frames[-1]["x"]) - array(other[-1]["x"])).max() > 1e-4


@pytest.fixture(scope="module")
def reader() -> Served:
    """An ARFlow that has seen clean images in training, so that it reads examples."""
    model = ARFlow(
        sample_size=8, patch_size=4, in_channels=1, hidden_size=16, depth=2, num_heads=2, num_classes=12, clean=0.25
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    pipe = make_pipeline(model.eval())
    pipe.set_progress_bar_config(disable=True)
    return Served(pipe, describe("r", pipe))


@pytest.mark.parametrize("count", [0, 3])
def test_pictures_in_view_of_examples_are_the_pipelines(reader: Served, count: int) -> None:
    assert "examples" in reader.about["abilities"]
    shown = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    examples = [{"x": encode(2 * x - 1), "class_label": 5 + k} for k, x in enumerate(shown)]
    asked = {"model": "r", "class_labels": list(range(11)), "examples": examples, "seed": 4, "num_inference_steps": 3}
    frames: list[dict[str, Any]] = []
    draw(read_request({**asked, "guidance_scale": 2.0}, {"r": reader}), frames.append)
    assert [(frame["first"], len(frame["pictures"]), frame["done"]) for frame in frames] == [
        (0, 8, False),
        (8, 3, True),
    ]
    given = {"examples": shown, "example_labels": [5 + k for k in range(count)]} if count else {}
    expected = reader.pipe(
        list(range(11)),
        generator=[torch.Generator().manual_seed(s) for s in image_seeds(torch.Generator().manual_seed(4), 11)],
        num_inference_steps=3,
        guidance_scale=2.0,
        history="none",
        output_type="pt",
        **given,
    ).images
    found = np.concatenate([np.stack([array(x) for x in frame["pictures"]]) for frame in frames])
    np.testing.assert_allclose(found / 2 + 0.5, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_labels": []}, "class_labels must be a list of 1 to 128"),
        ({"class_labels": [0] * 129}, "class_labels must be a list of 1 to 128"),
        ({"class_labels": [13]}, "label must be a whole number from 0 to 12"),
        ({"examples": [{}] * 17}, "examples must be a list of at most 16"),
        ({"examples": [{"class_label": 1, "y": 1}]}, "unknown field 'y'"),
        ({"examples": [{"class_label": 1, "x": {"data": "AAAA"}}]}, "must hold 64 float32 numbers"),
        ({"solver": "heun"}, "unknown field 'solver'"),
    ],
)
def test_bad_requests_with_examples(reader: Served, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_request({"model": "r", "class_labels": [0], **changes}, {"r": reader})


def test_examples_are_refused_by_a_model_that_reads_none(models: dict[str, Served]) -> None:
    with pytest.raises(InputError, match="a cannot use class_labels"):
        read_request({"model": "a", "class_labels": [0]}, models)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], "the request must be a JSON object"),
        ({"model": "b"}, "unknown model 'b'"),
        ({"model": 3}, "unknown model 3"),
        ({"model": "a"}, "class_label must be a whole number from 0 to 4, not None"),
        ({"model": "a", "class_label": 5}, "class_label must be a whole number from 0 to 4, not 5"),
        ({"model": "a", "class_label": True}, "class_label must be a whole number"),
        ({"model": "a", "class_label": 1, "seed": -1}, "seed must be a whole number from 0"),
        ({"model": "a", "class_label": 1, "num_inference_steps": 1000}, "num_inference_steps must be a whole number"),
        ({"model": "a", "class_label": 1, "guidance_scale": 1e9}, "guidance_scale must lie between 0 and 20"),
        ({"model": "a", "class_label": 1, "solver": "dopri5"}, "unknown solver 'dopri5'"),
        ({"model": "a", "class_label": 1, "sedd": 1}, "unknown field 'sedd': did you mean 'seed'"),
        ({"model": "a", "class_label": 1, "maps": [1]}, "a cannot use maps"),
        ({"model": "f", "class_label": 1, "history": {"forget_from": 1}}, "f cannot use history"),
        ({"model": "f", "class_label": 1, "maps": [1, 2, 3]}, "maps must be a list of fewer than 3 maps"),
        ({"model": "f", "class_label": 1, "maps": [{"data": "AAAA"}]}, "map 1 must hold 4 float32 numbers"),
        ({"model": "f", "class_label": 1, "maps": [{"data": "?"}]}, "map 1: the data are no base64"),
        ({"model": "a", "class_label": 1, "start": {"t": 0.5}}, "start.x must be"),
        ({"model": "f", "class_label": 1, "start": {"t": 0.5}}, "f draws scale by scale: give maps instead of start"),
        ({"model": "a", "class_label": 1, "history": {"forget": 1}}, "history has an unknown field 'forget'"),
    ],
)
def test_bad_requests(models: dict[str, Served], request_: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_request(request_, models)


def test_numbers_that_are_no_picture() -> None:
    bad = encode(torch.tensor([0.0, float("nan")]))
    with pytest.raises(InputError, match="values that are no picture"):
        decode(bad, (2,), "x")


def test_over_http(ask: Ask, models: dict[str, Served]) -> None:
    listed = ask("GET", "/api/models").json()["models"]
    assert [each["id"] for each in listed] == ["a", "f"]
    assert listed[0]["class_names"] == ["zero", "one", "2", "3"]
    assert listed[0]["abilities"] == ["complete", "state"]
    assert (listed[1]["abilities"], listed[1]["map_sides"]) == (["complete", "scales"], [2, 4, 8])
    answer = ask("POST", "/api/sample", {**BASE, "model": "f"})
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.body.splitlines()] == frames_of(models, model="f")


def test_the_classifier(ask: Ask) -> None:
    blank = encode(torch.full((1, 28, 28), -1.0))
    probabilities = ask("POST", "/api/classify", {"x": blank}).json()["probabilities"]
    assert len(probabilities) == 10
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert ask("POST", "/api/classify", {"y": blank}).status == 400


@pytest.mark.parametrize("name", ["a", "f"])
def test_latents_are_shown_decoded(models: dict[str, Served], name: str) -> None:
    """With an autoencoder: pictures of its size, the last that of the pipeline; drawings and maps are refused."""
    torch.manual_seed(0)
    settings = {"block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 4}
    vae = AutoencoderKL(**settings, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=1).eval()
    pipe = make_pipeline(models[name].pipe.transformer, vae=vae)
    pipe.set_progress_bar_config(disable=True)
    latent = {name: Served(pipe, describe(name, pipe))}
    assert latent[name].about["sample"] == {"channels": 3, "size": 16}
    frames = frames_of(latent, model=name)
    assert array(frames[-1]["x"]).shape == latent[name].shape == (3, 16, 16)
    shown = (array(frames[-1]["x"]) / 2 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, pipeline_image(latent[name]), atol=1e-5)
    for frame in frames:
        assert np.isfinite(array(frame["predicted"])).all()
    start, coarse = {"x": encode(torch.zeros(3, 16, 16)), "t": 0.5}, [encode(torch.zeros(1, 2, 2))]
    given: dict[str, Any] = {"start": start} if name == "a" else {"maps": coarse}
    with pytest.raises(InputError, match=f"{name} cannot use {next(iter(given))}"):
        frames_of(latent, model=name, **given)
