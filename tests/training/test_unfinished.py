"""A run that is not finished is sampled from its newest checkpoint, with the names of its classes."""

from collections.abc import Callable
from pathlib import Path

import torch

from flowgression import TrainConfig, load_pipeline, train
from flowgression.sampling.folders import find_folder, weights_of_run


def test_the_newest_checkpoint_stands_for_the_run(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    settings = tiny_config("sit", max_steps=4, checkpoint_every=2)
    train(settings)
    folder = Path(settings.out)
    finished = load_pipeline(folder)
    assert find_folder(folder) == folder / "pipeline"
    assert weights_of_run(folder) is None
    (folder / "pipeline").rename(tmp_path / "elsewhere")  # as before the end
    pipe = load_pipeline(folder)
    assert find_folder(folder) == folder / "checkpoints" / "step-0000004" / "ema"
    assert weights_of_run(folder) == "EMA weights of step 4, the newest of a run that is not finished"
    assert pipe.labels == finished.labels
    assert "seven" in pipe.labels
    for name, parameter in finished.transformer.named_parameters():
        assert torch.equal(parameter, pipe.transformer.get_parameter(name))


def test_a_folder_of_something_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-0000001").mkdir(parents=True)
    assert find_folder(tmp_path) == tmp_path
