"""Glyphs of fonts, on those that matplotlib brings with it: DejaVu, STIX and Computer Modern."""

import shutil
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import ImageFont

from flowgression import InputError
from flowgression.data import DataConfig, make_loader, make_sampler, open_dataset
from flowgression.data.config import CHARACTERS, FontsConfig
from flowgression.data.facts import look_at_pictures
from flowgression.data.fonts import collect as collect_module
from flowgression.data.fonts.augment import change, draw_changes
from flowgression.data.fonts.collect import cluster, collect, distances, family_key, shapes
from flowgression.data.fonts.dataset import GlyphImages, character_of, class_name, in_split
from flowgression.data.fonts.render import render_file

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
LETTERS = "ABCabcgxy018.,"
pytestmark = pytest.mark.filterwarnings("ignore:fonts.*split")


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A serif, a copy of it under another name, a sans of two weights, a font of symbols, and no font."""
    root = tmp_path / "fonts"
    root.mkdir()
    for name in ("DejaVuSerif.ttf", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "STIXGeneral.ttf", "cmsy10.ttf"):
        shutil.copy(FOLDER / name, root / name)
    shutil.copy(FOLDER / "DejaVuSerif.ttf", root / "copy.ttf")
    (root / "broken.otf").write_bytes(b"no font")
    return root


def glyphs(folder: Path, split: str = "all", **options: object) -> GlyphImages:
    config = FontsConfig(characters=LETTERS, **options)  # type: ignore[arg-type]
    dataset = open_dataset(DataConfig(path=f"fonts:{folder}", split=split, fonts=config))
    assert isinstance(dataset, GlyphImages)
    return dataset


def test_replaced_fonts_are_noticed(folder: Path) -> None:
    before = glyphs(folder).files_crc32
    assert glyphs(folder).files_crc32 == before
    shutil.copy(FOLDER / "DejaVuSans-Oblique.ttf", folder / "DejaVuSans.ttf")
    assert glyphs(folder).files_crc32 != before


def test_facts_of_fonts_for_a_training_by_minutes(folder: Path) -> None:
    facts = look_at_pictures(DataConfig(path=f"fonts:{folder}", split="all", fonts=FontsConfig(characters=LETTERS)))
    assert (facts.grey, facts.common_size, len(facts.counts)) == (True, 36, len(LETTERS))


def test_a_font_has_one_size_and_one_baseline() -> None:
    (face,) = render_file(FOLDER / "DejaVuSans.ttf", LETTERS, 36)
    assert (face.family, face.present.all()) == ("DejaVu Sans", True)
    rows = {
        character: np.flatnonzero(image.max(1) > 128) for character, image in zip(LETTERS, face.images, strict=True)
    }
    feet = [rows[character][-1] for character in "ABx1."]
    assert max(feet) - min(feet) <= 1  # all stand on the baseline
    assert rows["g"][-1] > feet[0] + 3  # and g hangs below it
    font = ImageFont.truetype(str(FOLDER / "DejaVuSans.ttf"), 1000)
    heights = {character: font.getbbox(character, anchor="ls") for character in "Ax"}
    expected = heights["x"][1] / heights["A"][1]
    assert len(rows["x"]) / len(rows["A"]) == pytest.approx(expected, abs=0.05)
    for image in face.images:  # in the middle from left to right, and with a margin
        columns = np.flatnonzero(image.max(0) > 32)
        assert abs(columns[0] + columns[-1] - 35) <= 1
    assert max(image[0].max() for image in face.images) == 0


def test_characters_that_a_font_has_not_are_missing() -> None:
    (face,) = render_file(FOLDER / "DejaVuSerifDisplay.ttf", "AB", 24)
    assert not (face.present.any())
    assert not (face.images.any())
    (mixed,) = render_file(FOLDER / "DejaVuSans.ttf", "AB\u4e2d", 24)
    assert mixed.present.tolist() == [True, True, False]


def test_what_is_no_text_is_left_out_and_counted(folder: Path) -> None:
    found = collect([folder], LETTERS, 24)
    assert found.left_out["unreadable"] == 1
    assert found.left_out["drawn by another font too"] == 1
    assert len(found.names) == len(set(found.names)) == 4 + (1 - found.left_out["symbols"])
    assert not found.images[~found.present].any()
    with pytest.raises(InputError, match="no folder"):
        collect([folder / "nothing"], LETTERS, 24)
    (folder.parent / "empty").mkdir()
    with pytest.raises(InputError, match="no fonts are below"):
        collect([folder.parent / "empty"], LETTERS, 24)


def test_pictures_are_drawn_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = collect([folder], LETTERS, 24, tmp_path / "kept")
    monkeypatch.setattr(collect_module, "draw_all", lambda *arguments: pytest.fail("drawn again"))
    again = collect([folder], LETTERS, 24, tmp_path / "kept")
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.names, first.keys, first.left_out) == (again.names, again.keys, again.left_out)
    with pytest.raises(pytest.fail.Exception):  # another size is another picture
        collect([folder], LETTERS, 28, tmp_path / "kept")


def test_weights_and_widths_are_no_families() -> None:
    assert family_key("Noto Sans Condensed ExtraLight") == family_key("NotoSans-Bold") == "noto sans"
    assert family_key("DejaVu Serif") != family_key("DejaVu Sans")
    assert family_key("Black") == "black"


def test_families_and_near_copies_are_on_one_side(folder: Path) -> None:
    near = np.zeros((4, 4), dtype=bool)
    near[2, 3] = near[3, 2] = True  # the first and the third are of one family, the third and the fourth alike
    numbers = cluster(["a", "b", "a", "c"], near)
    assert numbers[0] == numbers[2] == numbers[3] != numbers[1]
    found = collect([folder], CHARACTERS, 36)
    sides = {}
    for seed in range(6):
        options = FontsConfig(held_out=0.5, seed=seed)
        test, train = in_split(found, "test", options), in_split(found, "train", options)
        assert (test != train).all()
        for number in np.unique(found.clusters):
            assert len(set(test[found.clusters == number])) == 1
        sides[seed] = tuple(test)
    assert len(set(sides.values())) > 1
    sans = [index for index, name in enumerate(found.names) if name.startswith("DejaVu Sans,")]
    assert (len(sans), len(set(found.clusters[sans]))) == (2, 1)


def test_a_near_copy_is_found_and_another_face_is_not() -> None:
    """The same outlines shifted by a pixel are a copy; sans and serif are not."""
    faces = [render_file(FOLDER / name, CHARACTERS, 36)[0] for name in ("DejaVuSans.ttf", "DejaVuSerif.ttf")]
    images = np.stack([faces[0].images, np.roll(faces[0].images, 1, axis=-1), faces[1].images])
    found = distances(shapes(images), np.ones(images.shape[:2], dtype=bool))
    assert 4 * found[0, 1] < collect_module.COPY < found[0, 2]


def test_the_data_set(folder: Path) -> None:
    dataset = glyphs(folder)
    assert dataset.groups is not None
    assert dataset.group_names is not None
    assert dataset.class_names == [*"ABCabcgxy018", "period", "comma"]
    index = next(i for i in range(len(dataset)) if dataset.class_names[dataset.labels[i]] == "g")
    name = dataset.group_names[dataset.groups[index]]
    font = dataset.fonts.names.index(name)
    np.testing.assert_array_equal(dataset.pixels([index])[0, 0], dataset.fonts.images[font, LETTERS.index("g")])
    assert len(glyphs(folder, most_per_family=1).fonts.names) == len(set(dataset.fonts.clusters))
    with pytest.raises(InputError, match="did you mean 'test'"):
        glyphs(folder, "tset")
    with pytest.warns(UserWarning, match="1 drawn by another font too"):
        glyphs(folder)


def test_names_of_classes_are_names_of_characters() -> None:
    assert all(character_of(class_name(character)) == character for character in CHARACTERS + "…")
    assert not any("," in class_name(character) for character in CHARACTERS)


def test_augmentation_is_constant_over_a_font_and_differs_between_epochs(folder: Path) -> None:
    dataset = glyphs(folder, augment=1.0)
    sampler = make_sampler(dataset, 2, 4, seed=3, contents="group")
    batches = [list(zip(range(3), make_loader(dataset, sampler, 0), strict=False)) for _ in range(2)]
    for (_, one), (_, two) in zip(*batches, strict=True):
        assert torch.equal(one["images"], two["images"])
    keys, groups = np.array([5, 5, 5, 6]), np.array([1, 1, 2, 1])
    hand = 0
    for key in range(20):
        changes = draw_changes(1.0, keys + 10 * key, groups, np.arange(4))
        assert changes.weight[0] == changes.weight[1] != changes.weight[2]
        assert changes.weight[0] != changes.weight[3]
        same = (changes.matrix[0] == changes.matrix[1]).all()
        assert same != bool(changes.hand[0])  # letters drawn by hand are a little unlike each other
        hand += int(changes.hand[0])
    assert 0 < hand < 20
    plain = dataset.pixels(range(8))
    none = draw_changes(0.0, np.arange(8), np.arange(8), np.arange(8))
    assert torch.equal(change(plain, none), plain)


def test_changed_letters_keep_their_ink_inside(folder: Path) -> None:
    dataset = glyphs(folder)
    images = dataset.pixels(range(len(dataset)))
    numbers = np.arange(len(dataset))
    ratios = []
    for key in range(10):
        assert dataset.groups is not None
        changed = change(images, draw_changes(1.0, np.full(len(numbers), key), dataset.groups, numbers))
        ink, border = changed.float().mean((1, 2, 3)), changed[:, 0, [0, -1]].float().mean()
        assert border < 8
        ratios.append((ink / images.float().mean((1, 2, 3)))[torch.from_numpy(dataset.labels) != LETTERS.index(".")])
    low, high = torch.cat(ratios).quantile(torch.tensor([0.01, 0.99])).tolist()
    assert 0.15 < low < high < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [({"characters": "AA"}, "none twice"), ({"characters": "A B"}, "no space"), ({"held_out": 2.0}, "share")],
)
def test_options_that_cannot_work_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FontsConfig(**options)
    with pytest.raises(InputError, match=r"data\.fonts is for data\.path fonts:FOLDER"):
        DataConfig(path="mnist", fonts=FontsConfig(held_out=0.2))


def test_several_folders(folder: Path) -> None:
    parts = [folder.parent / name for name in ("one", "two")]
    for part, name in zip(parts, ("DejaVuSerif.ttf", "DejaVuSans.ttf"), strict=True):
        part.mkdir()
        shutil.copy(FOLDER / name, part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = open_dataset(DataConfig(path=f"fonts:{parts[0]}:{parts[1]}", split="all"))
    assert both.group_names == ["DejaVu Serif, Book", "DejaVu Sans, Book"]
