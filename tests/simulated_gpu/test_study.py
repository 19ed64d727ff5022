"""The points of a study on the simulated GPU: sampling and features run there, and give the processor's figures."""

from pathlib import Path

import pytest
import torch

from flowgression.study import StudyConfig
from flowgression.study.grid import Grid
from flowgression.study.work import do_unit, finished, units
from tests.simulated_gpu.device import SimulatedGpu


def test_points_are_judged_on_the_device(gpu: SimulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The memory in use and the name of the processor, which reports name, would be asked of the driver.
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "simulated")
    found = []
    for device in ("cpu", "cuda"):
        gpu.reset()
        config = StudyConfig(
            models={"ready": {"pipeline": "sit-mnist"}},
            grids=[Grid(num_inference_steps=[2])],
            num_images=20,
            reference="mnist:test[:40]",
            keep=20,
            bootstrap=0,
            device=device,
            out=str(tmp_path / device),
        )
        [unit] = units(config, {})
        do_unit(config, unit, lambda text: None)
        assert (gpu.launches["convolution"] > 0 and gpu.launches["addmm"] > 0) == (device == "cuda")
        report = finished(config, unit, config.main_point)
        assert report is not None
        found.append([report["fid"], report["kid"], report["cost_flops_per_image"]])
    # A grey level that falls on the other side of rounding is one of 20 x 784; the features move by less than 1e-3.
    assert found[1] == pytest.approx(found[0], rel=1e-3)
