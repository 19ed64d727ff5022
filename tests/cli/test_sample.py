"""`flowgression sample`: kinds of output, labels, reproducibility, mistakes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression import SiT, SiTPipeline, load_pipeline
from flowgression.cli._device import set_tf32
from flowgression.cli.info import describe
from flowgression.cli.sample import make_parser, output_kind, read_option
from flowgression.sampling import save_npz
from flowgression.sampling.noise import image_seeds

QUICK = ("--num-inference-steps", "2", "--device", "cpu")


@pytest.fixture
def sample(command: Callable[..., Any], model_folder: Path) -> Callable[..., Any]:
    return lambda *arguments: command("sample", "--model", model_folder, *QUICK, *arguments)


def test_npz_is_what_the_pipeline_makes(sample: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    result = sample("--class-labels", 3, "one", "0-2", "--seed", 7, "--batch-size", 2, "--out", out)
    assert result.status == 0
    assert f"wrote {out}" in result.out
    assert "5 images" in result.out
    assert "2 steps, euler, guidance 1.5, seed 7" in result.out
    with np.load(out) as content:
        images, labels = content["arr_0"], content["labels"]
    assert labels.tolist() == [3, 1, 0, 1, 2]
    assert (images.dtype, images.shape) == (np.uint8, (5, 8, 8, 1))
    pipe = load_pipeline(model_folder)
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(s) for s in image_seeds(torch.Generator().manual_seed(7), 5)]
    expected = pipe([3, 1, 0, 1, 2], num_inference_steps=2, generator=generator, output_type="np").images
    assert np.abs(images - expected * 255.0).max() <= 0.51


def test_classes_take_turns(sample: Callable[..., Any], tmp_path: Path) -> None:
    for number, arguments, expected in [
        (0, (), [0, 1, 2, 3]),
        (1, ("--num-images", 6), [0, 1, 2, 3, 0, 1]),
        (2, ("--num-images", 3, "--class-labels", "trio", "0"), [3, 0, 3]),
        (3, ("--num-images", 1, "--class-labels", "trio", "0"), [3]),
    ]:
        assert sample("--out", tmp_path / f"{number}.npz", *arguments).status == 0
        with np.load(tmp_path / f"{number}.npz") as content:
            assert content["labels"].tolist() == expected


def test_grid_has_a_captioned_row_for_each_class(sample: Callable[..., Any], tmp_path: Path) -> None:
    sample("--num-images", 12, "--out", tmp_path / "rows.png", "--scale", 8)
    sample("--num-images", 12, "--out", tmp_path / "same.png", "--scale", 8, "--class-labels", "1")
    with Image.open(tmp_path / "rows.png") as rows, Image.open(tmp_path / "same.png") as same:
        assert rows.mode == same.mode == "L"
        assert rows.height == 4 * 64 + 3 * 2
        assert rows.width > 3 * 64 + 2 * 2  # captions
        assert same.size == (4 * 64 + 3 * 2, 3 * 64 + 2 * 2)


def test_one_image_is_written_as_it_is(sample: Callable[..., Any], tmp_path: Path) -> None:
    sample("--num-images", 1, "--out", tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (8, 8)


PNG_NAMES = ["000000-zero.png", "000001-one.png", "000002-two.png", "000003-three.png", "000004-zero.png"]


def test_folder_of_pngs(sample: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "new" / "images"
    result = sample("--num-images", 5, "--batch-size", 2, "--out", f"{out}/")
    assert sorted(file.name for file in out.iterdir()) == [*PNG_NAMES, "sampling.json"]
    record = json.loads((out / "sampling.json").read_text())
    assert {"num_inference_steps": 2, "solver": "euler", "seed": 0, "precision": "float32"}.items() <= record.items()
    assert f"wrote 5 PNG files to {out}/" in result.out
    with Image.open(out / PNG_NAMES[0]) as image:
        assert (image.mode, image.size) == ("L", (8, 8))


@pytest.mark.slow
def test_in_a_process_of_its_own(model_folder: Path, tmp_path: Path) -> None:
    code = "import sys; from flowgression.cli.main import main; sys.exit(main())"
    arguments = ["sample", "--model", str(model_folder), *QUICK, "--num-images", "5", "--out", f"{tmp_path}/"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [*PNG_NAMES, "sampling.json"]
    assert done.stdout.startswith(f"wrote 5 PNG files to {tmp_path}/")
    assert done.stderr == ""  # no progress bar where nobody watches, no warnings of libraries


def test_gif_shows_every_step_of_every_batch(sample: Callable[..., Any], tmp_path: Path) -> None:
    sample("--out", tmp_path / "a.gif", "--batch-size", 3, "--num-inference-steps", 5)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 6
        assert film.size == (2 * 64 + 2, 2 * 64 + 2)


def test_scales_side_by_side(command: Callable[..., Any], flowar_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scales.png"
    arguments = ("sample", "--model", flowar_folder, *QUICK, "--num-images", 3, "--batch-size", 2, "--show-scales")
    result = command(*arguments, "--out", out, "--steps-last-scale", 1, "--scale", 8)
    assert result.status == 0
    assert "3 images at 3 scales" in result.out
    with Image.open(out) as picture:
        assert picture.height == 3 * 64 + 2 * 2
        pixels = np.asarray(picture)[:, -(3 * 64 + 2 * 2) :]
    assert len(np.unique(pixels[:64, :64])) <= 4  # the coarsest map: one patch of 2 x 2 values
    assert len(np.unique(pixels[:64, -64:])) > 16
    assert "let --out end with .png" in command(*arguments, "--out", tmp_path / "a.npz").err


def test_other_models_have_no_scales(sample: Callable[..., Any], tmp_path: Path) -> None:
    assert "not for ARFlow" in sample("--show-scales", "--out", tmp_path / "a.png").err
    assert "has no argument steps_last_scale" in sample("--steps-last-scale", 2, "--out", tmp_path / "a.png").err


def test_underscores_and_options(sample: Callable[..., Any], tmp_path: Path) -> None:
    for number, norm in enumerate(("0.1", "1.0")):
        arguments = ("--solver", "sde", "--solver_option", "diffusion=constant", "--solver-option")
        assert sample("--out", tmp_path / f"{number}.npz", *arguments, f"diffusion_norm={norm}").status == 0
    small, large = (np.load(tmp_path / f"{number}.npz")["arr_0"].astype(int) for number in (0, 1))
    assert np.abs(small - large).max() > 2


def test_precision(sample: Callable[..., Any], tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        assert sample("--out", tmp_path / f"{dtype}.npz", "--dtype", dtype).status == 0
    full, half = (np.load(tmp_path / f"{dtype}.npz")["arr_0"].astype(int) for dtype in ("float32", "bfloat16"))
    assert np.abs(full - half).max() < 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.jpg"], "unknown ending '.jpg'"),
        (["--out", "/proc/nowhere/x.png"], "cannot write to /proc/nowhere"),
        (["--class-labels", "4"], "class label 4 is out of range; the model has classes 0 to 3"),
        (["--class-labels", "-1"], "class label -1 is out of range"),
        (["--class-labels", "thre"], "unknown class name 'thre': did you mean 'three'"),
        (["--class-labels", "3-1"], "runs backwards; write 1-3"),
        (["--num-images", "0"], "--num-images must be at least 1, not 0"),
        (["--num-images", "two"], "invalid int value: 'two'"),
        (["--solver", "hein"], "did you mean 'heun'"),
        (["--solver", "dopri5"], "use 'euler', 'heun', 'midpoint' or 'sde'"),
        (["--solver-option", "diffusion"], "must be NAME=VALUE"),
        (["--num-inference-steps", "0"], "num_inference_steps must be an integer >= 1"),
        (["--device", "cudaa"], "unknown device 'cudaa': did you mean 'cuda'"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
        (["--model", "tiny-nothing"], "no model 'tiny-nothing'"),
    ],
)
def test_mistakes(
    sample: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = sample(*arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_result_that_is_not_finite(sample: Callable[..., Any], tmp_path: Path) -> None:
    result = sample("--guidance-scale", "1e30", "--num-inference-steps", 8, "--out", tmp_path / "a.png")
    assert result.status == 2
    assert "gave values that are not finite; try float32 or a smaller guidance_scale" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_device(sample: Callable[..., Any]) -> None:
    assert "this machine has no device 'cuda'" in sample("--device", "cuda").err


def test_kind_by_ending(tmp_path: Path) -> None:
    endings = {"a.png": "png", "b/a.PNG": "png", "a.gif": "gif", "a.npz": "npz", "a/": "folder", "a": "folder"}
    assert {out: output_kind(out) for out in endings} == endings
    (tmp_path / "v1.5").mkdir()
    assert output_kind(str(tmp_path / "v1.5")) == "folder"


def test_labels_are_names(command: Callable[..., Any], tmp_path: Path) -> None:
    """A model of the classes 0 to 11 in the order of their text, and files of labels."""
    names = sorted(map(str, range(12)))
    model = SiT(8, 4, 1, 16, 1, 2, num_classes=12)
    SiTPipeline(model, id2label=dict(enumerate(names))).save_pretrained(tmp_path / "model")

    def labels(*arguments: object) -> Any:
        out = tmp_path / "a.npz"
        result = command("sample", "--model", tmp_path / "model", *QUICK, "--out", out, *arguments)
        return result.err if result.status else [names[label] for label in np.load(out)["labels"]]

    assert labels("--class-labels", "1-3") == labels("--class-labels", 1, 2, 3) == ["1", "2", "3"]
    (shown,) = describe(str(tmp_path / "model"))
    assert shown.rows["class names"] == ", ".join(names[:10]) + ", ..."
    files = {"hot.npy": np.eye(12)[:3], "half.npy": np.array([1.0, 2.7]), "ids.npy": np.array([2, 4], dtype=np.uint8)}
    for name, array in files.items():
        np.save(tmp_path / name, array)
    assert "take argmax(-1)" in labels("--label-policy", tmp_path / "hot.npy")
    assert "class label 2.7 is no class" in labels("--label-policy", tmp_path / "half.npy")
    assert labels("--label-policy", tmp_path / "ids.npy") == ["10", "2"]
    (tmp_path / "lines.txt").write_text("2\n11\n")
    assert labels("--label-policy", tmp_path / "lines.txt") == ["2", "11"]
    # Images of another model say what their labels mean.
    save_npz(np.zeros((2, 8, 8, 1), np.uint8), [1, 0], tmp_path / "b.npz", {"class_names": ["11", "3", "cat"]})
    assert labels("--label-policy", tmp_path / "b.npz") == ["3", "11"]
    save_npz(np.zeros((1, 8, 8, 1), np.uint8), [2], tmp_path / "c.npz", {"class_names": ["11", "3", "cat"]})
    assert "images of the class 'cat'" in labels("--label-policy", tmp_path / "c.npz")


def test_options() -> None:
    assert read_option("last-step=None") == ("last_step", None)
    assert read_option("rtol=1e-3") == ("rtol", 1e-3)
    assert read_option("diffusion=sigma") == ("diffusion", "sigma")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_progress(model_folder: Path, tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # else it has no columns to draw in
    command = [sys.executable, "-m", "flowgression", "sample", "--model", str(model_folder), *QUICK]
    command += ["--num-images", "2", "--out", str(tmp_path / "a.png")]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0, shown.decode()
    assert b"sampling" in shown
    assert b"Loading" not in shown


@pytest.mark.parametrize(
    ("kind", "flags", "precision"),
    [
        ("cuda", [], "high"),
        ("cuda", ["--no-tf32"], "highest"),
        ("cpu", [], "highest"),
    ],
)
def test_float32_on_cuda_uses_tensor_cores_unless_told_not_to(kind: str, flags: list[str], precision: str) -> None:
    args = make_parser().parse(flags)
    before = torch.get_float32_matmul_precision()
    try:
        set_tf32(torch.device(kind), args.tf32)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_examples_from_files(
    sample: Callable[..., Any], command: Callable[..., Any], flowar_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "shown"
    folder.mkdir()
    levels = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    for number, image in enumerate(levels):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "._0.png").write_bytes(b"what macOS leaves beside each file")
    out = tmp_path / "a.npz"
    arguments = ("--example-times", 0.5, 1, 1, "--batch-size", 2, "--out", out)
    assert sample("--examples", folder / "0.png", folder / "1.png", folder / "2.png", *arguments).status == 0
    with np.load(out) as content:
        images, labels, facts = content["arr_0"], content["labels"], json.loads(str(content["sampling"]))
    assert labels.tolist() == [4, 4, 4]  # the null label, as many as examples
    assert facts["example_times"] == [0.5, 1.0, 1.0]
    pipe = load_pipeline(model_folder)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        examples=levels[..., None], num_images=3, example_times=(0.5, 1, 1), num_inference_steps=2, output_type="np",
        generator=[torch.Generator().manual_seed(s) for s in image_seeds(torch.Generator().manual_seed(0), 3)],
    ).images  # fmt: skip
    assert np.abs(images - expected * 255.0).max() <= 0.51
    assert sample("--examples", folder, "--num-images", 2, "--out", tmp_path / "drawn").status == 0
    assert sorted(path.name for path in (tmp_path / "drawn").glob("*.png")) == [
        "000000-like_the_examples.png", "000001-like_the_examples.png"
    ]  # fmt: skip
    assert sample("--examples", folder, "--class-labels", 1, "--out", tmp_path / "b.npz").status == 0
    Image.fromarray(levels[0].T).save(folder / "2.png")
    assert (
        "parts of another sampling" in sample("--examples", folder, "--out", tmp_path / "drawn", "--num-images", 2).err
    )
    (folder / "2.png").write_text("no image")
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong, message in (
        (folder, "2.png is damaged"),
        (empty, "no image files"),
        (tmp_path / "x.png", "x.png does not exist"),
    ):
        result = sample("--examples", wrong, "--out", tmp_path / "c.npz")
        assert result.status == 2
        assert message in result.err
    other = command("sample", "--model", flowar_folder, "--examples", folder, "--out", tmp_path / "d.npz")
    assert "FlowAR reads no image beside the one it draws" in other.err
