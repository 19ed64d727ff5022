"""Small model folders."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from flowgression import ARFlow, make_pipeline

    model = ARFlow(sample_size=8, patch_size=4, in_channels=1, hidden_size=16, depth=1, num_heads=2, num_classes=4)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_pipeline(model, id2label={0: "zero", 1: "one", 2: "two", 3: "three, trio"}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def flowar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from flowgression import FlowAR, make_pipeline

    model = FlowAR(
        sample_size=8, patch_size=2, in_channels=1, scales=(1, 2, 4), hidden_size=16, encoder_depth=1, decoder_depth=1,
        num_heads=2, flow_width=16, flow_depth=1, flow_num_heads=1, num_classes=4,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "tiny-flowar"
    make_pipeline(model).save_pretrained(folder)
    return folder
