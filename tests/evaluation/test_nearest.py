"""Copies are told from new images, whatever else is true of the images; and the command says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression import InputError
from flowgression.cli.main import main
from flowgression.evaluation.nearest import nearest_images


def blobs(count: int, seed: int) -> np.ndarray:
    """Smooth colour pictures of a family with eight free numbers, uint8 [count, 8, 8, 3]."""
    generator = np.random.default_rng(seed)
    across = np.linspace(-1, 1, 8)
    waves = np.stack([np.outer(across**i, across**j) for i in range(2) for j in range(2)])  # [4, 8, 8]
    mixed = np.tensordot(generator.uniform(-1, 1, (count, 3, 4)), waves, axes=1)
    return (127.5 + 40 * mixed).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def test_new_images_are_nearer_than_the_threshold_as_often_as_expected() -> None:
    found = nearest_images(blobs(400, seed=1), blobs(600, seed=2))
    assert abs(found.share - 0.05) < 3 * (0.05 * 0.95 / 400) ** 0.5
    assert not found.looks_copied


def test_copies_are_found_also_noisy_ones_and_among_new_images() -> None:
    training = blobs(600, seed=2)
    noise = np.random.default_rng(0).integers(-1, 2, (100, 8, 8, 3))
    copies = (training[:100].astype(int) + noise).clip(0, 255).astype(np.uint8)
    found = nearest_images(copies, training)
    assert found.looks_copied
    assert found.share > 0.9
    assert (found.indices == np.arange(100)).mean() > 0.95
    half = nearest_images(np.concatenate([copies[:30], blobs(70, seed=3)]), training)
    assert half.looks_copied
    assert half.share == pytest.approx(0.3, abs=0.1)


def test_images_that_are_there_twice_do_not_hide_copies() -> None:
    training = blobs(200, seed=2)
    twice = np.concatenate([training, training])
    assert nearest_images(training[:50], twice).looks_copied
    assert np.array_equal(nearest_images(blobs(50, 1), twice).indices, nearest_images(blobs(50, 1), training).indices)


def test_held_out_images_say_how_near_new_images_are() -> None:
    training = blobs(300, seed=2)
    found = nearest_images(blobs(400, seed=1), training, held_out=blobs(400, seed=3))
    assert abs(found.share - 0.05) < 3 * (0.05 * 0.95 * (1 / 400 + 1 / 400)) ** 0.5
    assert len(found.of_new) == 400
    # Training images in pairs that are almost equal: among each other they are near, a new image is not.
    pairs = np.concatenate([training, (training.astype(int) + 1).clip(0, 255).astype(np.uint8)])
    near = (training.astype(int) + np.random.default_rng(0).integers(-3, 4, training.shape)).clip(0, 255)
    near = near.astype(np.uint8)
    assert nearest_images(near, pairs, held_out=blobs(400, seed=3)).share > 0.9
    assert nearest_images(near, pairs).share == 0


def test_features_find_copies_that_are_moved() -> None:
    training = np.random.default_rng(0).integers(0, 255, (200, 8, 8, 3), dtype=np.uint8)
    moved = np.roll(training[:60], 3, axis=2)

    def colours(images: torch.Tensor) -> torch.Tensor:
        return images.double().flatten(2).sort(dim=2).values.flatten(1)  # what moving leaves as it is

    assert not nearest_images(moved, training).looks_copied
    found = nearest_images(moved, training, features=colours)
    assert found.looks_copied
    assert np.array_equal(found.indices, np.arange(60))


def test_wrong_shapes_and_too_few_are_refused() -> None:
    for samples, training in (
        (blobs(2, 0), blobs(2, 0)[:, :4]),
        (blobs(0, 0), blobs(3, 0)),
        (blobs(1, 0), blobs(1, 0)),
    ):
        with pytest.raises(InputError):
            nearest_images(samples, training)


def test_the_command_draws_pairs_and_tells_a_model_that_draws_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.png"
    argv = ["nearest", "--model", "sit-mnist", "--data", "mnist", "--split", "test", "--num-images", "3"]
    assert main([*argv, "--num-inference-steps", "2", "--out", str(out)]) in (0, 1)
    assert "of 3 samples are nearer" in capsys.readouterr().out
    assert Image.open(out).size[1] > Image.open(out).size[0] / 8
    assert main([*argv[:-1], "0"]) == 2


def test_the_command_takes_what_a_run_held_out_and_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", "--model.family", "sit", "--model.args.patch_size", "14", "--model.args.hidden_size", "16"]
    run += ["--model.args.depth", "1", "--model.args.num_heads", "1", "--data.path", "mnist", "--data.split", "test"]
    run += ["--data.validation", "0.02", "--max-steps", "1", "--batch-size", "2", "--preview.every", "0"]
    assert main([*run, "--tracker", "none", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "with the EMA weights whose loss on held-out images was lowest (the last" in said
    nearest = ["nearest", "--data", "mnist", "--split", "test", "--num-images", "2", "--num-inference-steps", "1"]
    nearest += ["--out", str(tmp_path / "pairs.png"), "--features", "mnist"]
    for model in ("run", "run/pipeline"):
        main([*nearest, "--model", str(tmp_path / model)])
        said = capsys.readouterr().out
        assert "(in mnist), which is nearer than all but" in said
        assert "held-out images are" in said
    main([*nearest, "--model", "sit-mnist"])
    assert "training images have their nearest neighbour" in capsys.readouterr().out
