"""The page's engine against PyTorch: random numbers, and whole pictures of the built-in models from the same seed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flowgression import load_pipeline
from flowgression.sampling import sample_batches
from flowgression.sampling.noise import image_seeds
from tests.page.nodejs import needs_node, run_module

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "site"
RUNTIME = ROOT / "docs" / "_build" / "npm" / "onnxruntime-web-1.30.0"
pytestmark = needs_node
needs_site = pytest.mark.skipif(
    not (SITE / "models" / "index.json").is_file() or not RUNTIME.is_dir(), reason="run `make site` first"
)
SAMPLE = """
  const { openModel } = await load('engine/model.js');
  const fs = await import('node:fs/promises');
  const runtime = await import(given.runtime);
  runtime.env.wasm.numThreads = 1;
  const model = await openModel(runtime, async (name) => new Uint8Array(await fs.readFile(`${given.folder}/${name}`)));
  const results = [];
  for (const request of given.requests) {
    if (request.maps) request.maps = request.maps.map((map) => Float32Array.from(map));
    if (request.start) request.start.x = Float32Array.from(request.start.x);
    const frames = [];
    if (request.class_labels) {
      for await (const { pictures } of model.sample(request)) frames.push(...pictures.map((picture) => [...picture]));
      results.push(frames);
      continue;
    }
    for await (const { x, t, index, total, done, scale } of model.sample(request)) {
      frames.push({ x: [...x], t, index, total, done: Boolean(done), scale: scale ?? 0 });
    }
    results.push(frames);
  }
  return results;
"""


def _frames(model: str, requests: list[dict]) -> list[list[dict]]:
    runtime = (RUNTIME / "dist" / "ort.wasm.min.mjs").as_uri()
    return run_module(SAMPLE, {"runtime": runtime, "folder": str(SITE / "models" / model), "requests": requests})


def test_random_numbers_are_those_of_torch() -> None:
    counts, seeds = (16, 31, 784, 1000), (0, 1, 2**40 + 3)
    found = run_module(
        """const { Generator } = await load('engine/random.js');
        return given.seeds.map((seed) => { const one = new Generator(seed);
          return [String(one.imageSeed()), ...given.counts.map((count) => [...one.normal(count)])]; });""",
        {"counts": counts, "seeds": seeds},
    )
    for seed, (image_seed, *rows) in zip(seeds, found, strict=True):
        generator = torch.Generator().manual_seed(seed)
        assert int(image_seed) == image_seeds(generator, 1)[0]
        for count, row in zip(counts, rows, strict=True):
            expected = torch.randn(count, generator=generator).double()
            # |radius| < 6; torch takes logarithms and sines in float32, at most 4 units in the last place each.
            assert (torch.tensor(row, dtype=torch.float64) - expected).abs().max() < 6 * 8 * 2.0**-24


DIGITS = ("sit-mnist", "arflow-mnist", "flowar-mnist", "fastflowar-mnist")
CASES = [
    {"num_inference_steps": 50, "guidance_scale": 2.5, "solver": "euler"},
    {"num_inference_steps": 6, "guidance_scale": 1.0, "solver": "heun"},
    {"num_inference_steps": 5, "guidance_scale": 3.0, "solver": "midpoint"},
]


@needs_site
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sit-mnist", "arflow-mnist", "flowar-mnist", "fastflowar-mnist", "sit-mnist-meanflow"]
)
def test_pictures_are_those_of_flowgression_sample(name: str) -> None:
    """Within one grey level, for 50 guided steps and for every solver."""
    pipeline = load_pipeline(name)
    found = _frames(name, [{**case, "class_label": 7, "seed": 11} for case in CASES])
    scales = json.loads((SITE / "models" / name / "manifest.json").read_text()).get("scales", [0])
    for case, frames in zip(CASES, found, strict=True):
        assert [frame["index"] for frame in frames] == list(range(frames[0]["total"]))
        assert len(frames) == len(scales) * (case["num_inference_steps"] + 1)
        assert [frame["done"] for frame in frames] == [False] * (len(frames) - 1) + [True]
        batch = next(sample_batches(pipeline, [7], case, seed=11, batch_size=1, shown=False))
        expected = batch.images.reshape(28, 28).astype(float)
        pixels = np.rint((np.array(frames[-1]["x"]).reshape(28, 28).clip(-1, 1) + 1) * 127.5)
        assert np.abs(pixels - expected).max() <= 1


@needs_site
@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 2])
def test_letters_in_view_of_examples_are_those_of_the_pipeline(count: int) -> None:
    """Within one grey level, in two batches, guided and not."""
    pipeline = load_pipeline("arflow-glyphs")
    size, labels = pipeline.transformer.config.sample_size, list(range(10))
    shown = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(2)).round()
    examples = [{"x": (2 * x - 1).flatten().tolist(), "class_label": 3 + k} for k, x in enumerate(shown)]
    request = {"class_labels": labels, "examples": examples, "seed": 4, "num_inference_steps": 5}
    scales = (1.0, 2.0)
    found = _frames("arflow-glyphs", [{**request, "guidance_scale": scale} for scale in scales])
    seeds = image_seeds(torch.Generator().manual_seed(4), len(labels))
    for scale, pictures in zip(scales, found, strict=True):
        given = {"examples": shown, "example_labels": [3 + k for k in range(count)]} if count else {}
        expected = pipeline(
            class_labels=labels,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=5,
            guidance_scale=scale,
            history="none",
            output_type="pt",
            **given,
        ).images
        pixels = torch.tensor(pictures).reshape(expected.shape).clamp(-1, 1)
        assert (127.5 * (pixels + 1) - 255 * expected).abs().max() <= 1


@needs_site
@pytest.mark.slow
def test_coarse_maps_that_are_given_stay_bit_for_bit_and_finer_ones_follow() -> None:
    request = {"class_label": 3, "seed": 5, "num_inference_steps": 4, "guidance_scale": 2.0, "solver": "euler"}
    (free,) = _frames("flowar-mnist", [request])
    maps = [[frame["x"] for frame in free if frame["scale"] == k][-1] for k in range(4)]
    edited = [maps[0], [1.0 - value for value in maps[1]]]
    kept, changed = _frames("flowar-mnist", [{**request, "maps": maps[:2]}, {**request, "maps": edited}])
    assert {frame["scale"] for frame in kept} == {2, 3}  # the given ones are not drawn, so they cannot change
    assert kept[-1]["x"] == maps[3]
    assert np.abs(np.array(changed[-1]["x"]) - np.array(maps[3])).max() > 0.5


@needs_site
@pytest.mark.slow
def test_the_past_can_be_taken_away_and_swapped() -> None:
    request = {"class_label": 3, "seed": 5, "num_inference_steps": 6, "guidance_scale": 2.0, "solver": "euler"}
    histories = [{"forget_from": 6}, {"forget_from": 3}, {"class_label": 3}, {"class_label": 8}]
    free, *changed = _frames("arflow-mnist", [request, *({**request, "history": each} for each in histories)])
    distances = [
        [np.abs(np.array(a["x"]) - np.array(b["x"])).max() for a, b in zip(free, frames, strict=True)]
        for frames in changed
    ]
    assert max(distances[0]) == 0  # there is no step 6 to forget at
    assert max(distances[1][:4]) == 0
    assert distances[1][4] > 0
    assert max(distances[2]) < 1e-5  # its own class's past is its own
    assert max(distances[3][:2]) == 0  # the first step has no past
    assert distances[3][2] > 0


@needs_site
@pytest.mark.slow
def test_a_start_in_the_middle_is_on_the_line_between_noise_and_drawing() -> None:
    request = {"class_label": 3, "seed": 5, "num_inference_steps": 4, "guidance_scale": 1.0, "solver": "euler"}
    drawing = np.random.default_rng(0).uniform(-1, 1, 784)
    free, started = _frames("sit-mnist", [request, {**request, "start": {"x": drawing.tolist(), "t": 0.75}}])
    np.testing.assert_allclose(started[0]["x"], 0.25 * np.array(free[0]["x"]) + 0.75 * drawing, atol=1e-6)
    assert [frame["t"] for frame in started] == [0.75, 0.8125, 0.875, 0.9375, 1.0]
