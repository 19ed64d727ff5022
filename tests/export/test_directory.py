"""Exported graphs against PyTorch: small models of each family, sampled as whole pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgression import ARFlow, FlowAR, InputError, SiT, make_pipeline
from flowgression.export import directory, export_model
from flowgression.export.directory import TOLERANCE
from flowgression.export.graph import largest_difference, program, stable_logsigmoid
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.families.flowar.scales import to_map
from flowgression.registry import family_of
from tests.onnx_export import why_no_onnx

onnxruntime = pytest.importorskip("onnxruntime")
DIT = {"sample_size": 8, "patch_size": 2, "in_channels": 3, "hidden_size": 32, "depth": 2, "num_heads": 4}
SCALES = {"sample_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 32, "flow_width": 32, "num_heads": 4}
BLOCKS = {"encoder_depth": 1, "decoder_depth": 1, "flow_depth": 1, "flow_num_heads": 4}
MODELS: dict[str, Any] = {
    "sit": lambda: SiT(**DIT, num_classes=5),
    "arflow": lambda: ARFlow(**DIT, num_classes=5),
    "sit of averages": lambda: SiT(**DIT, num_classes=5, average_velocity=True),
    "arflow of averages": lambda: ARFlow(**DIT, num_classes=5, average_velocity=True),
    "arflow without decay": lambda: ARFlow(**DIT, num_classes=5, decay=False),
    "flowar": lambda: FlowAR(**SCALES, **BLOCKS, num_classes=5),
    "fastflowar": lambda: FlowAR(**SCALES, **BLOCKS, num_classes=5, attention="lowrank"),
    "cross": lambda: FlowAR(**SCALES, **BLOCKS, num_classes=5, cross_attention=True, attention="bounded"),
}


def made(name: str) -> Any:
    """A model with random weights, none of them zero, as they are before training."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model and its directory."""
    if reason := why_no_onnx():
        pytest.skip(reason)
    model = made(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    make_pipeline(model).save_pretrained(folder / "model")
    export_model(str(folder / "model"), folder / "out")
    return model.eval(), folder / "out"


@pytest.mark.slow
def test_manifest_describes_what_is_there(exported: tuple[Any, Path]) -> None:
    _, folder = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("flowgression-export", 1)
    assert manifest["num_classes"] == manifest["null_label"] == len(manifest["class_names"]) == 5
    assert {path.name for path in folder.glob("*.onnx")} == {graph["file"] for graph in manifest["graphs"].values()}
    assert 0 < manifest["check"]["max_difference"] < 1e-3
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    for graph in manifest["graphs"].values():
        session = onnxruntime.InferenceSession(folder / graph["file"])
        assert [each["name"] for each in graph["inputs"]] == [each.name for each in session.get_inputs()]
        assert [each["name"] for each in graph["outputs"]] == [each.name for each in session.get_outputs()]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7])
def test_fifty_guided_steps(exported: tuple[Any, Path], batch: int) -> None:
    """A walk by the graphs alone ends within 1e-4 of PyTorch's, in units of the largest pixel."""
    model, folder = exported
    sessions = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}
    walk = _walk_over_scales if "head" in sessions else _walk_with_state
    ours, theirs = walk(model, sessions, torch.arange(batch) % 5)
    assert torch.isfinite(theirs).all()
    assert (ours - theirs).abs().max() <= 1e-4 * ours.abs().max().clamp(min=1)


def _run(session: Any, **given: torch.Tensor) -> list[torch.Tensor]:
    return [torch.from_numpy(each) for each in session.run(None, {k: v.numpy() for k, v in given.items()})]


def _walk_over_scales(model: Any, sessions: Any, class_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """FlowAR by its sampler and by its two graphs."""
    batch, patch, count = len(class_labels), model.config.patch_size, len(model.scales)
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(shape, generator=generator) for shape in noise_shapes(model, batch)]
    ours = sample(model, class_labels, noise=noise, num_inference_steps=50, guidance_scale=2.0).sample
    labels = torch.cat([class_labels, torch.full((batch,), 5)])
    maps = [torch.zeros(2 * batch, 1, side * patch, side * patch) for side in model.scales]
    for k, side in enumerate(model.scales):
        drawn = {f"map{i + 1}": each for i, each in enumerate(maps[:-1])}
        positions = torch.arange(side**2) + sum(each**2 for each in model.scales[:k])
        semantics = _run(sessions["transformer"], class_labels=labels, **drawn)[0][:, positions]

        def call(
            z: torch.Tensor, t: float, state: None, here: Any = (semantics, positions)
        ) -> tuple[torch.Tensor, None]:
            step = torch.full((2 * batch,), float(np.floor(np.float32(1000) * np.float32(1 - t))))
            tokens = torch.cat([z, z]).float()
            given = {"tokens": tokens, "time_step": step, "semantics": here[0], "positions": here[1]}
            return _run(sessions["head"], **given)[0], None

        z = _walk(call, noise[k].double(), scale=1 + k / (count - 1))
        maps[k] = torch.cat([to_map(z.float(), patch)] * 2)
    return ours, maps[-1][:batch]


def _walk_with_state(model: Any, sessions: Any, class_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SiT, and ARFlow with its state."""
    session, batch = sessions["velocity"], len(class_labels)
    inputs = [each.name for each in session.get_inputs()]
    stateful, averages = "state" in inputs, "r" in inputs
    z = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.cat([class_labels, torch.full((batch,), 5)])

    def ours(x: torch.Tensor, t: float, state: Any) -> tuple[torch.Tensor, Any]:
        time = torch.full((2 * batch,), t)
        end = time + 1 / 50 if averages else None
        with torch.no_grad():
            if not stateful:
                return model(torch.cat([x, x]), time, labels, r=end).velocity, None
            ends = None if end is None else end[:, None]
            output = model(torch.cat([x, x])[:, None], time[:, None], labels, state, r=ends)
            return output.velocity[:, 0], output.state

    def theirs(x: torch.Tensor, t: float, state: Any) -> tuple[torch.Tensor, Any]:
        given = {"x": torch.cat([x, x]), "t": torch.full((2 * batch,), t), "class_labels": labels}
        if averages:
            given["r"] = given["t"] + 1 / 50
        if stateful:
            given["state"] = torch.zeros(2 * batch, 2, 4, 8, 8) if state is None else state
        found = _run(session, **given)
        return found[0], found[1] if stateful else None

    return _walk(ours, z), _walk(theirs, z)


def _walk(call: Any, x: torch.Tensor, steps: int = 50, scale: float = 2.0) -> torch.Tensor:
    state = None
    for step in range(steps):
        both, state = call(x, step / steps, state)
        of_class, of_null = both.chunk(2)
        x = x + (of_null + scale * (of_class - of_null)) / steps
    return x


@pytest.mark.slow
def test_programs_of_torch_export_have_the_same_inputs_and_outputs(tmp_path: Path) -> None:
    make_pipeline(MODELS["arflow"]()).save_pretrained(tmp_path / "model")
    manifest = export_model(str(tmp_path / "model"), tmp_path / "out", file_format="torch")
    program = torch.export.load(tmp_path / "out" / manifest["graphs"]["velocity"]["file"]).module()
    given = (torch.randn(3, 3, 8, 8), torch.rand(3), torch.tensor([0, 1, 5]), torch.zeros(3, 2, 4, 8, 8))
    velocity, state, decay = program(*given)
    assert [each["name"] for each in manifest["graphs"]["velocity"]["outputs"]] == [
        "velocity", "next_state", "log_decay",
    ]  # fmt: skip
    assert (velocity.shape, state.shape, decay.shape) == ((3, 3, 8, 8), (3, 2, 4, 8, 8), (3, 2, 4))


FAST = ("arflow", "fastflowar", "sit of averages")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in MODELS])
def test_every_family_has_graphs_of_any_batch(name: str) -> None:
    """The first half of an export, which takes seconds: nothing in a model may fix the batch."""
    model = made(name)
    for graph in family_of(model).export_function(model).graphs.values():
        module = program(graph).module()
        assert largest_difference(graph, lambda given, module=module: outputs_of(module, given)) < TOLERANCE


def outputs_of(module: Any, given: Any) -> list[Any]:
    found = module(*given.values())
    return [each.detach().numpy() for each in ([found] if isinstance(found, torch.Tensor) else found)]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'onxx'"):
        export_model("sit-mnist", tmp_path, file_format="onxx")


def test_other_things_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no export; give a new directory"):
        export_model("sit-mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_graphs_that_differ_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither their own files nor a change of an earlier export."""
    before = json.dumps({"format": "flowgression-export"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(before)
    make_pipeline(MODELS["sit"]()).save_pretrained(tmp_path / "model")
    monkeypatch.setitem(directory.WRITERS, "onnx", (_write_nothing, ".onnx"))
    with pytest.raises(InputError, match=r"velocity.onnx differs from PyTorch by inf"):
        export_model(str(tmp_path / "model"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
    assert (tmp_path / "out" / "manifest.json").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "model"}


def _write_nothing(graph: Any, path: Path) -> Any:
    path.write_bytes(b"")
    return lambda given: [np.full((len(given["x"]), *graph.inputs["x"].shape[1:]), np.nan)]


def test_log_sigmoid_of_large_gates_stays_finite() -> None:
    x = torch.tensor([-1e4, -136.0, -104.0, -1.0, 0.0, 1.0, 136.0], dtype=torch.float32)
    torch.testing.assert_close(stable_logsigmoid(x), torch.nn.functional.logsigmoid(x))
    assert torch.isinf(torch.log(torch.sigmoid(x))).any()  # what it replaces


def test_models_without_an_export_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    make_pipeline(ARFlow(**DIT, num_classes=5, context="full")).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="context='full' has no export"):
        export_model(str(tmp_path / "model"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_older_torch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgression.export.graph.torch.__version__", "2.7.1+cpu")
    with pytest.raises(InputError, match=r"needs torch 2.8 or newer, and this is 2.7.1\+cpu"):
        export_model("sit-mnist", tmp_path / "out")
