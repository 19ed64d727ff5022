"""`flowgression sample` on several processes, killed and resumed: every image once, and the same ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COUNT = 200
QUICK = ("--num-inference-steps", 2, "--device", "cpu", "--batch-size", 4, "--num-images", COUNT, "--seed", 5)


@pytest.fixture
def arguments(model_folder: Path) -> tuple[Any, ...]:
    return ("sample", "--model", model_folder, *QUICK)


def assert_same_images(left: np.ndarray, right: np.ndarray) -> None:
    """At most one grey level apart, in fewer than 1 pixel in 1,000."""
    assert left.shape == right.shape
    apart = np.abs(left.astype(int) - right.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3


def test_a_lost_process_costs_nothing_that_is_finished(
    arguments: tuple[Any, ...], command: Callable[..., Any], launch: Callable[..., Any], tmp_path: Path
) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    assert command(*arguments, "--label-policy", "random", "--out", one).status == 0
    parts = tmp_path / "two.npz.parts"

    # Two processes of which one is killed: the other does its share, says what happened, and all of it is kept.
    group = launch([*arguments, "--label-policy", "random", "--out", two], 2)
    group.wait_until(lambda: len(list(parts.glob("part-*.npy"))) >= 3)
    group.kill(1)
    assert group.wait() == [1, -9]
    assert group.output().count("another process was lost") == 1
    assert f"Finished images are kept in {parts}; the same command resumes from there." in group.output()
    assert "Traceback" not in group.output()
    kept = len(list(parts.glob("part-*.npy")))
    assert COUNT // 4 // 2 <= kept < COUNT // 4
    assert not two.exists()

    # One process makes the rest.
    result = command(*arguments, "--label-policy", "random", "--out", two)
    assert result.status == 0, result.err
    assert f"{4 * kept} of {COUNT} images are there already" in result.out
    assert not parts.exists()
    with np.load(one) as left, np.load(two) as right:
        assert_same_images(left["arr_0"], right["arr_0"])
        np.testing.assert_array_equal(left["labels"], right["labels"])


def test_two_processes_fill_a_folder_without_gaps_or_duplicates(
    arguments: tuple[Any, ...], command: Callable[..., Any], launch: Callable[..., Any], tmp_path: Path
) -> None:
    one, folder = tmp_path / "one.npz", tmp_path / "images"
    assert command(*arguments, "--out", one).status == 0
    group = launch([*arguments, "--out", f"{folder}/"], 2)
    assert group.wait() == [0, 0], group.output()
    assert group.output().count(f"wrote {COUNT} PNG files to {folder}/") == 1
    files = sorted(folder.glob("*.png"))
    assert [int(file.name[:6]) for file in files] == list(range(COUNT))
    with np.load(one) as content:
        assert_same_images(content["arr_0"][..., 0], np.stack([np.asarray(Image.open(file)) for file in files]))
        assert np.bincount(content["labels"]).tolist() == [COUNT // 4] * 4
    # All is there: the same command does nothing more, another seed is refused, by one line of one process.
    assert f"{COUNT} of {COUNT} images are there already" in command(*arguments, "--out", f"{folder}/").out
    group = launch([*arguments, "--seed", 6, "--out", f"{folder}/"], 2)
    assert group.wait() == [2, 2]
    assert group.output().count("\n") == 1
    assert "holds finished parts of another sampling (seed 5 -> 6)" in group.output()


def test_killed_while_sampling_and_a_full_disk_at_the_end(
    arguments: tuple[Any, ...], command: Callable[..., Any], launch: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "a.npz"
    parts = tmp_path / "a.npz.parts"
    group = launch([*arguments, "--out", out], 1)
    group.wait_until(lambda: len(list(parts.glob("part-*.npy"))) >= 2)
    group.kill(0)
    assert group.wait() == [-9]
    kept = {file: file.stat().st_mtime_ns for file in parts.glob("part-*.npy")}
    # Parts of 256 pixels fit, the npz of 12,800 does not.
    group = launch([*arguments, "--out", out], 1, TEST_FILE_LIMIT="4000")
    assert group.wait() == [1]
    assert "cannot write the images ([Errno 27] File too large)" in group.output()
    assert f"kept in {parts}; the same command resumes from there" in group.output()
    assert "Traceback" not in group.output()
    assert not out.exists()
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert command(*arguments, "--out", out).status == 0
    assert [file.name for file in tmp_path.glob("a.npz*")] == ["a.npz"]


def test_one_picture_is_for_one_process(
    arguments: tuple[Any, ...], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "give X.npz or a folder to several" in command(*arguments, "--out", tmp_path / "a.png").err
    monkeypatch.setenv("RANK", "2")
    assert "the environment describes no process (RANK=2, WORLD_SIZE=2" in command("sample").err


def test_label_policies(arguments: tuple[Any, ...], command: Callable[..., Any], tmp_path: Path) -> None:
    def labels(*more: object) -> list[int]:
        out = tmp_path / "a.npz"
        result = command(*arguments[:3], "--num-inference-steps", 1, "--device", "cpu", "--out", out, *more)
        assert result.status == 0, result.err
        with np.load(out) as content:
            return content["labels"].tolist()

    assert labels("--num-images", 6) == [0, 1, 2, 3, 0, 1]
    many = labels("--num-images", 40, "--label-policy", "random")
    assert labels("--num-images", 30, "--label-policy", "random") == many[:30]
    assert labels("--num-images", 40, "--label-policy", "random", "--seed", 1) != many
    assert set(many) == {0, 1, 2, 3}
    assert set(labels("--num-images", 20, "--label-policy", "random", "--class-labels", "1", "three")) == {1, 3}
    (tmp_path / "given.txt").write_text("3\none\n\n0\n")
    np.save(tmp_path / "given.npy", np.array([3, 1, 0]))
    np.savez(tmp_path / "given.npz", labels=np.array([3, 1, 0]))
    for name in ("given.txt", "given.npy", "given.npz"):
        assert labels("--label-policy", tmp_path / name) == [3, 1, 0]
    assert labels("--label-policy", tmp_path / "given.npy", "--num-images", 2) == [3, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--label-policy", "balance"), "--label-policy 'balance' is no file: did you mean 'balanced'?"),
        (("--label-policy", "g.txt", "--class-labels", "1"), "names a file of labels"),
        (("--label-policy", "g.txt", "--num-images", "9"), "--num-images 9, but g.txt has 2 labels"),
        (("--label-policy", "bad.txt"), "unknown class name 'thre': did you mean 'three'"),
        (("--label-policy", "bad.npy"), "bad.npy is damaged or holds something else"),
    ],
)
def test_labels_that_cannot_be(
    arguments: tuple[Any, ...],
    command: Callable[..., Any],
    more: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("g.txt", "1\n2\n"), ("bad.txt", "thre\n"), ("bad.npy", "no array")):
        (tmp_path / name).write_text(text)
    result = command(*arguments[:3], "--device", "cpu", "--out", "a.npz", *more)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
