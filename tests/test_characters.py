"""Characters and their strokes: Omniglot's files, made-up pens, splits and picks, against naive twins."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flat_files import omniglot_files, write_files
from scipy import stats

from inverse_graphics.config import FieldError
from scenes.flat import (
    CharacterBatch,
    Characters,
    PenConfig,
    character_stream,
    draw_characters,
    draw_pen_characters,
    embedded_characters,
    load_omniglot,
    select,
    split_by_alphabet,
    split_by_drawer,
    stroke_sheet,
)
from scenes.flat.__main__ import CharacterSheet, main
from scenes.flat.pen_strokes import COURSE_POINTS
from scenes.pen_kernels import draw_strokes, nearest_strokes

ALPHABETS = {"Greek": 2, "Latin": 1}
CONFIG = PenConfig(characters=6, drawers=5)


def distances(strokes: list[np.ndarray], size: int) -> np.ndarray:
    """Distance [s h w] of each pixel's centre to each stroke, by points laid very close along the pieces."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    shares = np.linspace(0, 1, 101)[:, None]
    out = []
    for points in strokes:
        pieces = [points[:1], *(a + shares * (b - a) for a, b in zip(points[:-1], points[1:], strict=True))]
        dense = np.concatenate(pieces)
        out.append(np.sqrt((rows[..., None] - dense[:, 1]) ** 2 + (columns[..., None] - dense[:, 0]) ** 2).min(-1))
    return np.stack(out)


def random_strokes(seed: int) -> list[np.ndarray]:
    """Strokes on 16 x 16 px, among them a dot."""
    generator = np.random.default_rng(seed)
    return [generator.uniform(1, 15, (count, 2)) for count in (4, 1, 3, 2)]


def packed(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Points and offsets as the kernels take them."""
    return np.concatenate(strokes), np.cumsum([0, *(len(points) for points in strokes)])


@pytest.mark.parametrize("seed", range(3))
def test_pixels_belong_to_the_nearest_stroke(seed: int) -> None:
    strokes = random_strokes(seed)
    image = (np.random.default_rng(seed).random((16, 16)) < 0.7).astype(np.uint8)
    labels = np.zeros((16, 16), np.int8)
    nearest_strokes(*packed(strokes), image, labels)
    away = distances(strokes, 16)
    clear = np.diff(np.sort(away, 0)[:2], axis=0)[0] > 0.02  # where sampling the pieces cannot decide otherwise
    assert clear.mean() > 0.9 and set(labels[image > 0]) == {0, 1, 2, 3}
    assert (labels[image == 0] == -1).all()
    np.testing.assert_array_equal(labels[(image > 0) & clear], away.argmin(0)[(image > 0) & clear])


def test_of_two_strokes_as_near_the_earlier_is_it() -> None:
    line = np.array([[2.5, 2.5], [6.5, 2.5]])
    image, labels = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.int8)
    nearest_strokes(*packed([line, line[::-1]]), image, labels)
    assert (labels == 0).all()
    draw_strokes(*packed([line, line]), 1.0, np.zeros((8, 8)), image, labels)
    assert set(labels.ravel()) == {-1, 0}


@pytest.mark.parametrize("seed", range(3))
def test_pens_draw_soft_lines_of_their_width(seed: int) -> None:
    strokes = random_strokes(seed)
    image, labels = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.int8)
    draw_strokes(*packed(strokes), 0.9, np.zeros((16, 16)), image, labels)
    away = distances(strokes, 16)
    expected = 255 * (0.9 + 0.5 - away.min(0)).clip(0, 1)
    assert np.abs(image - expected).max() < 3
    twin = np.zeros((16, 16), np.int8)
    nearest_strokes(*packed(strokes), image, twin)
    np.testing.assert_array_equal(labels, twin)


@pytest.fixture
def omniglot(tmp_path: Path) -> Path:
    """A root with two sets as folders."""
    write_files(tmp_path, omniglot_files("background", ALPHABETS))
    write_files(tmp_path, omniglot_files("evaluation", {"Avesta": 1}, drawers=2))
    return tmp_path


def test_omniglot_folders_are_read(omniglot: Path) -> None:
    (omniglot / "strokes_background" / "Greek" / "character01" / ".DS_Store").write_bytes(b"clutter")
    characters = load_omniglot("background", omniglot, canvas_px=35)
    assert characters.alphabets == ("Greek", "Latin")
    assert characters.alphabet_ids.tolist() == [0] * 6 + [1] * 3
    assert characters.character_ids.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert characters.drawer_ids.tolist() == [1, 2, 3] * 3
    assert set(characters.stroke_counts) == {2}
    for row, shift in enumerate([4, 7, 10, 5, 8, 11, 6, 9, 12]):
        page = np.zeros((105, 105))
        page[19 + shift : 22 + shift, 20:80] = 255
        page[10:90, 49:52] = 255
        means = page.reshape(35, 3, 35, 3).mean((1, 3))
        assert np.abs(characters.images[row] - means).max() <= 1
        across, down = np.array([[20, 20 + shift], [79, 20 + shift]]), np.array([[50, 10], [50, 89]])
        away = distances([(across + 0.5) / 3, (down + 0.5) / 3], 35)
        ink, clear = characters.images[row] > 0, np.abs(away[0] - away[1]) > 0.05
        np.testing.assert_array_equal(characters.stroke_ids[row][ink & clear], away.argmin(0)[ink & clear])
        assert (characters.stroke_ids[row][~ink] == -1).all()
    assert load_omniglot("evaluation", omniglot).images.shape == (2, 50, 50)


@pytest.mark.parametrize("sub", ["", "python"])
def test_omniglot_zip_files_are_read_as_folders_are(omniglot: Path, tmp_path: Path, sub: str) -> None:
    packed_root = tmp_path / "packed"
    for kind in ("images", "strokes"):
        shutil.make_archive(str(packed_root / sub / f"{kind}_background"), "zip", omniglot, f"{kind}_background")
    folder, archive = load_omniglot("background", omniglot), load_omniglot("background", packed_root)
    for field in dataclasses.fields(Characters):
        np.testing.assert_array_equal(getattr(folder, field.name), getattr(archive, field.name))
    (packed_root / sub / "strokes_background.zip").write_bytes(b"PK no")
    with pytest.raises(ValueError, match="strokes_background.zip: expected a zip file"):
        load_omniglot("background", packed_root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images_background/Latin/character01/0003_01.png", b"no picture", "0003_01.png: expected a picture"),
        ("strokes_background/Latin/character01/0003_01.txt", b"", "0003_01.txt: expected strokes, .*'no START'"),
        ("strokes_background/Latin/character01/0003_01.txt", b"START\nBREAK\n", "0003_01.txt: expected strokes, .*'0 strokes"),
        ("strokes_background/Latin/character01/0003_01.txt", b"START\n1,2\n", "0003_01.txt: expected strokes"),
        ("strokes_background/Latin/character01/0003_01.txt", b"START\n1,b,3\n", "0003_01.txt: expected strokes, .*'b'"),
        (
            "strokes_background/Latin/character01/0003_01.txt",
            b"START\n1,nan,3\n",
            "0003_01.txt: expected strokes, .*not a number",
        ),
        ("strokes_background/Latin/character01/0003_01.txt", b"START\n" + b"1,2,3\nBREAK\n" * 128, "128 strokes, not 1..127"),
    ],
)
def test_damaged_drawings_are_named(omniglot: Path, name: str, content: bytes, message: str) -> None:
    write_files(omniglot, {name: content})
    with pytest.raises(ValueError, match=message) as caught:
        load_omniglot("background", omniglot)
    assert "--download" in str(caught.value)


def test_missing_sets_and_strokes_are_named(omniglot: Path) -> None:
    with pytest.raises(ValueError, match="data_root: expected images_background_small1 or images_background_small1.zip in"):
        load_omniglot("background_small1", omniglot)
    (omniglot / "strokes_background/Greek/character02/0002_03.txt").unlink()
    with pytest.raises(ValueError, match="received 1 missing, Greek/character02/0002_03.txt for one"):
        load_omniglot("background", omniglot)
    shutil.rmtree(omniglot / "images_evaluation" / "Avesta")
    with pytest.raises(ValueError, match="received no drawing"):
        load_omniglot("evaluation", omniglot)


def test_pictures_of_another_size_are_refused(omniglot: Path) -> None:
    with pytest.raises(ValueError, match="canvas_px: expected at least 16, received 0"):
        load_omniglot("background", omniglot, canvas_px=0)
    small = stroke_sheet(embedded_characters(CONFIG, 0, range(1)), [0])
    small.save(omniglot / "images_background/Greek/character01/0001_01.png")
    with pytest.raises(ValueError, match="0001_01.png: expected 105 x 105 px, received 208 x 208"):
        load_omniglot("background", omniglot)


def test_pen_strokes_are_those_of_the_courses() -> None:
    drawings = draw_pen_characters(CONFIG, 4, range(120))
    characters = drawings.characters
    assert np.bincount(characters.stroke_counts, minlength=5)[1:].min() > 0
    for row in range(0, 120, 7):
        count = characters.stroke_counts[row]
        courses = drawings.courses_px[row]
        assert courses.shape == (4, COURSE_POINTS, 2) and not courses[count:].any()
        assert courses[:count].min() > 2 and courses[:count].max() < 48
        away = distances(list(courses[:count]), 50)
        ink = characters.images[row] > 0
        # the pen's width from the dark rim, then every pixel from that
        half_width_px = away.min(0)[ink].max() - 0.5
        assert 0.6 < half_width_px < 1.4
        clear = np.abs(np.diff(np.sort(np.concatenate([away, away + 9]), 0)[:2], axis=0)[0]) > 0.02
        np.testing.assert_array_equal(characters.stroke_ids[row][ink & clear], away.argmin(0)[ink & clear])
        assert (characters.stroke_ids[row][~ink] == -1).all()
        # smooth: no piece turns by more than 40 degrees from the one before
        pieces = np.diff(courses[:count], axis=1)
        angles = np.unwrap(np.arctan2(pieces[..., 1], pieces[..., 0]))
        assert np.abs(np.diff(angles)).max() < np.radians(40)
    # each stroke can be seen
    seen = [len(set(labels[labels >= 0])) for labels in characters.stroke_ids]
    assert (np.array(seen) == characters.stroke_counts).mean() > 0.99


def test_ink_of_made_up_characters_lies_on_the_canvas() -> None:
    for config in (CONFIG, PenConfig(canvas_px=28, widths_px=(1.0, 4.0), characters=6, drawers=5)):
        images = embedded_characters(config, 1, range(10)).images
        border = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
        assert border.max() == 0 and images.max((1, 2)).min() > 100


def test_drawers_write_the_same_characters_in_their_own_way() -> None:
    drawings = draw_pen_characters(dataclasses.replace(CONFIG, characters=12, drawers=6), 0, range(72 * 3))
    characters, courses_px = drawings.characters, drawings.courses_px
    assert len(np.unique(characters.character_ids)) == 36 and len(characters.alphabets) == 3
    for character in range(36):
        own = characters.character_ids == character
        assert len(set(characters.stroke_counts[own])) == 1 and characters.drawer_ids[own].tolist() == list(range(6))
    # courses, centred and scaled, are nearer to another drawing of the same character than to any other character's
    flat = courses_px.copy()
    present = np.arange(4) < characters.stroke_counts[:, None]
    for row in range(len(flat)):
        points = flat[row][present[row]]
        flat[row][present[row]] = (points - points.mean((0, 1))) / points.std()
        flat[row][~present[row]] = 10
    flat = flat.reshape(len(flat), -1)
    apart = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (characters.character_ids[apart.argmin(1)] == characters.character_ids).mean() > 0.97
    # a drawer's pen is one width in all characters: ink per length differs by drawer and not within
    length = np.linalg.norm(np.diff(courses_px, axis=2), axis=-1).sum((1, 2))
    single = characters.stroke_counts == 1
    width = characters.images.sum((1, 2), dtype=float) / 255 / (length + 1.5)
    means = np.array([width[single & (characters.drawer_ids == drawer)].mean() for drawer in range(6)])
    spread = max(width[single & (characters.drawer_ids == drawer)].std() for drawer in range(6))
    assert np.ptp(means) > 3 * spread


def test_made_up_drawings_depend_on_their_number_alone() -> None:
    together = draw_pen_characters(CONFIG, 3, range(100))
    some = [99, 7, 30, 31]
    apart = draw_pen_characters(CONFIG, 3, torch.tensor(some))
    np.testing.assert_array_equal(apart.courses_px, together.courses_px[some])
    for name in ("images", "stroke_ids", "stroke_counts", "character_ids", "drawer_ids"):
        np.testing.assert_array_equal(getattr(apart.characters, name), getattr(together.characters, name)[some])
    assert apart.characters.alphabets == tuple(f"pen alphabet {number}" for number in (0, 1, 3))
    other = draw_pen_characters(CONFIG, 4, range(100)).characters.images
    assert not (other == together.characters.images).all((1, 2)).any()
    alphabet = embedded_characters(CONFIG, 3, range(2, 3))
    np.testing.assert_array_equal(alphabet.images, together.characters.images[60:90])
    train = {image.tobytes() for image in embedded_characters(CONFIG, 3, range(5)).images}
    assert not train & {image.tobytes() for image in embedded_characters(CONFIG, 3, range(5, 8)).images}


def test_splits_share_no_alphabet_or_drawer() -> None:
    characters = embedded_characters(CONFIG, 0, range(3))
    train, test = split_by_alphabet(characters, ["pen alphabet 1"])
    assert set(train.alphabet_ids) == {0, 2} and set(test.alphabet_ids) == {1}
    assert not set(train.character_ids) & set(test.character_ids)
    assert (len(train), len(test)) == (60, 30) and test.alphabets == characters.alphabets
    train, test = split_by_drawer(characters, [0, 4])
    assert set(train.drawer_ids) == {1, 2, 3} and set(test.drawer_ids) == {0, 4}
    assert set(train.character_ids) == set(test.character_ids)
    np.testing.assert_array_equal(test.images, characters.images[np.isin(np.arange(90) % 5, [0, 4])])
    np.testing.assert_array_equal(select(characters, np.array([3, 1])).stroke_ids, characters.stroke_ids[[3, 1]])
    with pytest.raises(ValueError, match="held_out: expected names of alphabets .* received Greek"):
        split_by_alphabet(characters, ["Greek"])
    with pytest.raises(ValueError, match=r"held_out: expected a part of the 90 drawings, received drawers \[7\], which are 0"):
        split_by_drawer(characters, [7])


def test_picks_are_uniform_and_depend_on_their_number_alone() -> None:
    characters = embedded_characters(CONFIG, 0, range(1))
    batch = draw_characters(characters, 5, range(3000))
    assert stats.chisquare(batch.rows.bincount(minlength=30).numpy()).pvalue > 1e-3
    rows = batch.rows.numpy()
    assert torch.equal((255 * batch.images).round().byte(), torch.from_numpy(characters.images[rows]))
    assert torch.equal(batch.stroke_ids, torch.from_numpy(characters.stroke_ids[rows]))
    assert torch.equal(batch.character_ids, torch.from_numpy(characters.character_ids[rows]))
    with character_stream(characters, 4, 5, start_index=8) as stream:
        batches = [next(stream) for _ in range(2)]
    for field in dataclasses.fields(CharacterBatch):
        streamed = torch.cat([getattr(part, field.name) for part in batches])
        assert torch.equal(streamed, getattr(batch, field.name)[8:16])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"characters": 0}, "characters: expected at least 1"),
        ({"drawers": 0}, "drawers: expected at least 1"),
        ({"canvas_px": 15}, "canvas_px: expected at least 16"),
        ({"max_strokes": 5}, r"max_strokes: expected 1\.\.4, received 5"),
        ({"widths_px": (3.0, 2.0)}, "widths_px: expected 0.5 <= thinnest <= thickest"),
    ],
)
def test_pen_configs_out_of_range_name_the_field(changes: dict, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        PenConfig(**changes)


def test_alphabets_are_consecutive_numbers() -> None:
    with pytest.raises(ValueError, match="alphabets: expected a range of consecutive numbers"):
        embedded_characters(CONFIG, 0, range(0, 4, 2))
    with pytest.raises(ValueError, match="seed: expected 0 <= seed"):
        draw_pen_characters(CONFIG, -1, [0])


def test_sheet_and_command(omniglot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    characters = load_omniglot("background", omniglot, canvas_px=105)
    sheet = np.asarray(stroke_sheet(characters, [2, 0]))
    assert sheet.shape == (113, 2 * 109 + 4, 3)
    tile = sheet[4:109, 113:218]
    assert tile[24, 22].tolist() == [255, 255, 255]  # across, the first stroke
    assert tile[70, 50].tolist() == [86, 180, 233] and tile[70, 22].tolist() == [0, 0, 0]
    assert np.asarray(stroke_sheet(embedded_characters(CONFIG, 0, range(1)), [0])).shape == (208, 208, 3)
    main(CharacterSheet(omniglot / "a.png", data_root=omniglot, count=2))
    main(CharacterSheet(omniglot / "b.png", count=2))
    assert (omniglot / "a.png").stat().st_size > 500 and (omniglot / "b.png").stat().st_size > 500
    printed = capsys.readouterr().out
    assert "2 of Omniglot, background, 9 drawings" in printed and "2 of made-up pen strokes, seed 0, 2000 drawings" in printed
