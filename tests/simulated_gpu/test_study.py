"""The cells of a study on the simulated GPU: sampling and features run there, and give the processor's figures."""

from pathlib import Path

import pytest

from flowgression.study.config import Grid, StudyConfig
from flowgression.study.work import do_unit, finished, units
from tests.simulated_gpu.device import SimulatedGpu


def test_cells_are_judged_on_the_device(gpu: SimulatedGpu, tmp_path: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        gpu.reset()
        config = StudyConfig(
            models={"ready": {"pipeline": "sit-mnist"}},
            grids=[Grid(num_inference_steps=[2])],
            num_images=40,
            reference="mnist:test[:80]",
            keep=40,
            bootstrap=0,
            device=device,
            out=str(tmp_path / device),
        )
        [unit] = units(config, {})
        do_unit(config, unit, lambda text: None)
        assert (gpu.launches["convolution"] > 0 and gpu.launches["addmm"] > 0) == (device == "cuda")
        report = finished(config, unit, config.main_cell)
        assert report is not None
        found.append([report["fid"], report["kid"], report["cost_flops_per_image"]])
    # A grey level that falls on the other side of rounding is one of 40 x 784; the features move by less than 1e-3.
    assert found[1] == pytest.approx(found[0], rel=1e-3)
