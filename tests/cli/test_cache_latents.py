"""`flowgression cache-latents`: from images to a cache that trains, and back to images."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from flowgression import SiTPipeline, load_pipeline
from flowgression.data import DataConfig, open_dataset
from flowgression.data.latents.dataset import LatentCache
from flowgression.models import load_autoencoder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    for index in range(24):
        path = folder / "ab"[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae") / "vae"
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=1.5,
        shift_factor=0.25,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def cache(command: Callable[..., Any], images: Path, vae: Path, tmp_path: Path) -> Path:
    out = tmp_path / "cache"
    arguments = ["--data", images, "--autoencoder", vae, "--out", out, "--shard-size", 10, "--verify"]
    result = command("cache-latents", *arguments)
    assert (result.status, result.err) == (0, "")
    assert f"{out}: 24 latents of 4 x 4 x 4 in 3 shards" in result.out
    assert "are whole" in result.out
    again = command("cache-latents", *arguments)
    assert (again.status, again.err) == (0, "")
    return out


def test_latents_are_those_of_the_autoencoder(cache: Path, images: Path, vae: Path) -> None:
    dataset, pictures = open_dataset(DataConfig(str(cache))), open_dataset(DataConfig(str(images)))
    assert isinstance(dataset, LatentCache)
    source = np.concatenate([dataset._shard(number).arrays["source"] for number in range(3)])
    moments = load_autoencoder(str(vae)).encode(pictures.batch(source.tolist(), [False] * 24))
    expected = (moments.mean - 0.25) * 1.5
    torch.testing.assert_close(dataset.batch(range(24), [False] * 24), expected, atol=0.02, rtol=0.02)


def test_training_reads_it_and_the_pipeline_decodes(
    cache: Path, vae: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"""
model: {{family: sit, args: {{patch_size: 2, hidden_size: 16, depth: 1, num_heads: 2}}}}
data: {{path: {cache}, flip: true, num_workers: 0, scaling_factor: 1.5}}
sequence_length: 1
batch_size: 4
max_steps: 2
device: cpu
num_threads: 1
out: {tmp_path / "run"}
preview: {{every: 1, num_images: 2, num_inference_steps: 2}}
tracker: none
"""
    )
    assert command("train", "--config", config).status == 0
    with Image.open(tmp_path / "run" / "samples" / "step-0000002.png") as grid:
        assert grid.mode == "RGB"
    pipe = load_pipeline(tmp_path / "run" / "pipeline")
    assert pipe.labels == {"a": 0, "b": 1}
    assert pipe.config.latent_space == {"scaling_factor": 1.5, "shift_factor": 0.25}
    own = AutoencoderKL.from_pretrained(vae).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in pipe.vae.state_dict().items())
    other = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.13025)
    match = "latents with scaling_factor=1.5, but the autoencoder has 0.13025"
    with pytest.raises(ValueError, match=match):
        SiTPipeline.from_pretrained(tmp_path / "run" / "pipeline", vae=other)
    wrong = command("train", "--config", config, "--model.args.in_channels", 16, "--out", tmp_path / "other")
    assert wrong.status == 2
    assert f"does not fit the latents of autoencoder {vae} in {cache}, which have 4" in wrong.err


def test_a_run_does_not_go_on_with_latents_of_another_scale(
    images: Path, vae: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    for name, scale in (("one", 1.5), ("two", 2.5)):
        arguments = ["--data", images, "--autoencoder", vae, "--out", tmp_path / name, "--scaling-factor", scale]
        assert command("cache-latents", *arguments).status == 0
    flags = {
        "model.family": "sit", "model.args.patch_size": 4, "model.args.hidden_size": 16, "model.args.depth": 1,
        "model.args.num_heads": 2, "data.path": tmp_path / "cache", "data.num_workers": 0, "sequence_length": 1,
        "batch_size": 4, "max_steps": 1, "device": "cpu", "num_threads": 1, "preview.every": 0, "tracker": "none",
        "out": tmp_path / "run",
    }  # fmt: skip
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    (tmp_path / "one").rename(tmp_path / "cache")
    assert command("train", *arguments).status == 0
    (tmp_path / "cache").rename(tmp_path / "one")
    (tmp_path / "two").rename(tmp_path / "cache")
    result = command("train", *arguments, "--resume")
    assert result.status == 2
    assert "the data set's scaling_factor 1.5 -> 2.5" in result.err


def test_images_that_were_replaced_are_noticed(images: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    """Other pixels in files of the same names and labels: under a cache that is not finished, and under a run."""
    data = tmp_path / "images"
    shutil.copytree(images, data)
    caching = ["cache-latents", "--data", data, "--autoencoder", "identity", "--out", tmp_path / "cache"]
    config = tmp_path / "c.yaml"
    config.write_text(
        f"""
model: {{family: sit, args: {{patch_size: 4, hidden_size: 16, depth: 1, num_heads: 2}}}}
data: {{path: {data}, num_workers: 0}}
sequence_length: 1
batch_size: 4
max_steps: 1
device: cpu
num_threads: 1
out: {tmp_path / "run"}
preview: {{every: 0}}
tracker: none
"""
    )
    training = ["train", "--config", config]
    assert [command(*each).status for each in (caching, training)] == [0, 0]
    shutil.move(data, tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", data)
    assert [command(*each).status for each in (caching, [*training, "--resume"])] == [0, 0]
    Image.fromarray(np.full((8, 8, 3), 7, dtype=np.uint8)).save(data / "a" / "00.png")
    for each in (caching, [*training, "--resume"]):
        result = command(*each)
        assert result.status == 2
        assert re.search(r"because these changed: .*files_crc32 \d+ -> \d+", result.err)


def test_a_full_disk_is_one_line(
    images: Path, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, tensors: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("flowgression.data.latents.writer.write_shard", full)
    result = command("cache-latents", "--data", images, "--autoencoder", "identity", "--out", tmp_path / "cache")
    assert result.status == 1
    assert "No space left on device). 0 of 1 shards are finished and kept; fix the cause" in result.err
    assert result.err.count("\n") == 1


def test_a_damaged_cache_is_reported(cache: Path, command: Callable[..., Any]) -> None:
    shard = next(iter(sorted(cache.glob("*.safetensors"))))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    result = command("cache-latents", "--out", cache, "--verify")
    assert result.status == 1
    assert f"{shard.name} has another checksum" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data {images} --autoencoder identity --out {taken}", "exists and is no latent cache"),
        ("--data {images} --out {out}", "--autoencoder is missing"),
        ("--autoencoder identity --out {out}", "--data is missing"),
        ("--data {images} --autoencoder idenity --out {out}", "did you mean 'identity'"),
        ("--data {images} --autoencoder {vae} --image-size 7 --out {out}", "give an --image-size that is a multiple"),
        ("--data {images} --autoencoder identity --out {out} --shard-size 0", "--shard-size must be at least 1"),
        ("--data {images} --autoencoder identity --out {out} --scaling-factor 2", "scaling_factor has no meaning"),
        ("--data {nothing} --autoencoder identity --out {out}", "neither mnist nor an existing folder"),
        ("--out {out} --verify", "holds no latent cache"),
    ],
)
def test_mistakes(
    command: Callable[..., Any], images: Path, vae: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    places = {"images": images, "vae": vae, "out": tmp_path / "out", "taken": tmp_path / "taken"}
    result = command("cache-latents", *arguments.format(**places, nothing=tmp_path / "nothing").split())
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_of_one_machine_and_of_a_launcher(images: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; from flowgression.cli.main import main; sys.exit(main())"]
    common = ["cache-latents", "--data", images, "--autoencoder", "identity", "--shard-size", "5"]
    own = [*common, "--num-processes", "2", "--out", tmp_path / "own"]
    subprocess.run([*program, *map(str, own)], check=True)
    launched = [
        subprocess.Popen(
            [*program, *map(str, [*common, "--out", tmp_path / "launched"])],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait() for process in launched] == [0, 0]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("own", "launched")]
    assert files[0] == files[1]
    assert len(files[0]) == 11  # the index, five shards and their records
