"""Canvases of digits, against Pillow's resize, naive overlap checks, enumerated placements and closed forms."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from flat_files import write_mnist
from PIL import Image
from scipy import stats

from inverse_graphics.config import ConfigError, from_mapping
from scenes.flat import Digits, FlatBatch, FlatConfig, compose, digit_sheet, digit_stream, embedded_digits, load_digits
from scenes.flat.__main__ import DigitSheet, main

DIGITS = embedded_digits("test")
CONFIGS = {
    "paper": FlatConfig(),
    "crude": FlatConfig(rule="crude", counts=(1, 2)),
    "large": FlatConfig(canvas_px=100, counts=(4, 5, 6)),
    "shares": FlatConfig(canvas_px=64, counts=(2,), scale_unit="canvas", scale_range=(0.15, 0.7), scale_law="uniform"),
}


def sprites(batch: FlatBatch, index: int) -> list[np.ndarray]:
    """Each digit of a canvas alone, by Pillow's resize from its box."""
    canvas_px = batch.images.shape[1]
    alone = []
    for slot in range(int(batch.counts[index])):
        x, y, scale = batch.boxes[index, slot].double().tolist()
        side = round(scale * canvas_px)
        left, top = (round((centre + 1) / 2 * canvas_px - side / 2) for centre in (x, y))
        source = Image.fromarray(DIGITS.images[int(batch.digit_ids[index, slot])].astype(np.float32) / 255, mode="F")
        frame = np.zeros((3 * canvas_px, 3 * canvas_px))
        place = (slice(canvas_px + top, canvas_px + top + side), slice(canvas_px + left, canvas_px + left + side))
        frame[place] = np.asarray(source.resize((side, side), Image.Resampling.BILINEAR))
        frame[np.abs(frame) < 1e-7] = 0
        assert frame.sum() == pytest.approx(frame[canvas_px:-canvas_px, canvas_px:-canvas_px].sum())  # no ink is cut off
        alone.append(frame[canvas_px:-canvas_px, canvas_px:-canvas_px])
    return alone


def ink_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, and right and bottom after the last."""
    rows, columns = np.nonzero(image)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("name", CONFIGS)
def test_images_are_the_sums_of_resized_digits(name: str) -> None:
    batch = compose(DIGITS, CONFIGS[name], 3, range(40))
    for index in range(40):
        alone = sprites(batch, index)
        expected = sum(alone, np.zeros(batch.images.shape[1:])).clip(0, 1)
        np.testing.assert_allclose(batch.images[index].numpy(), expected, atol=2e-6)
        assert [ink_box(image) for image in alone] == [tuple(box) for box in batch.ink_px[index, : len(alone)].tolist()]


@pytest.mark.parametrize("name", ["paper", "large", "shares"])
def test_strict_boxes_share_no_pixel_and_lie_on_the_canvas(name: str) -> None:
    config = CONFIGS[name]
    batch = compose(DIGITS, config, 5, range(300))
    for count, boxes in zip(batch.counts.tolist(), batch.ink_px.numpy(), strict=True):
        cover = np.zeros((config.canvas_px, config.canvas_px), int)
        for left, top, right, bottom in boxes[:count]:
            assert 0 <= left < right <= config.canvas_px and 0 <= top < bottom <= config.canvas_px
            cover[top:bottom, left:right] += 1
        assert cover.max(initial=0) <= 1
    assert (batch.ink_px[batch.present][:, :2] == 0).any() and (batch.ink_px[batch.present] == config.canvas_px).any()


def test_crude_frames_lie_on_the_canvas_and_boxes_may_overlap() -> None:
    config = FlatConfig(rule="crude", counts=(2,))
    batch = compose(DIGITS, config, 5, range(300))
    reach = batch.boxes[..., :2].abs() + batch.boxes[..., 2:]
    assert reach.max() == pytest.approx(1.0, abs=1e-6)
    first, second = batch.ink_px.unbind(1)
    overlap = ((first[:, :2] < second[:, 2:]) & (second[:, :2] < first[:, 2:])).all(-1)
    assert 0.02 < overlap.float().mean() < 0.5
    for index in range(300):
        assert np.sum(sprites(batch, index), 0).max() <= 1 + 0.51 / 255


def test_crude_placements_are_uniform_over_those_that_are_not_too_bright() -> None:
    """Two bars on 14 px, frames of 7 x 7 px: all 64 x 64 pairs of places are tried by hand."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 8:20, 8:12] = 200
    bar = Digits(image, np.array([1]), "train", "a bar")
    config = FlatConfig(canvas_px=14, rule="crude", counts=(2,), scale_range=(0.25, 0.25))
    small = np.asarray(Image.fromarray(image[0].astype(np.float32) / 255, mode="F").resize((7, 7), Image.Resampling.BILINEAR))
    alone = np.zeros((8, 8, 14, 14))
    for top, left in itertools.product(range(8), range(8)):
        alone[top, left, top : top + 7, left : left + 7] = small
    alone = alone.reshape(64, 14, 14)
    allowed = (alone[:, None] + alone[None]).max((2, 3)) <= 1 + 0.5 / 255
    assert 0.5 < allowed.mean() < 0.99
    boxes = compose(bar, config, 0, range(12000)).boxes.double()
    corners = (((boxes[..., :2] + 1) / 2 * 14) - 3.5).round().long()
    places = (8 * corners[..., 1] + corners[..., 0]).numpy()
    assert allowed[places[:, 0], places[:, 1]].all()
    seen = np.zeros((64, 64))
    np.add.at(seen, (places[:, 0], places[:, 1]), 1)
    expected = allowed.sum(1) / allowed.sum() * len(places)
    assert stats.chisquare(seen.sum(1), expected).pvalue > 1e-3
    # and the pairs, by how far they are apart
    apart = np.abs(np.arange(64)[:, None] // 8 - np.arange(64) // 8) + np.abs(np.arange(64)[:, None] % 8 - np.arange(64) % 8)
    by_distance = np.bincount(apart[allowed], minlength=15)
    kept = by_distance > 0
    observed = np.bincount(apart.ravel(), seen.ravel(), minlength=15)[kept]
    assert stats.chisquare(observed, by_distance[kept] / by_distance.sum() * len(places)).pvalue > 1e-3


def test_sides_follow_their_laws() -> None:
    batch = compose(DIGITS, FlatConfig(rule="crude", counts=(1,)), 1, range(8000))
    sides = (batch.boxes[:, 0, 2].double() * 50).round().numpy()
    assert (sides.min(), sides.max()) == (17, 28)
    # the whole part of 28 / z is k where z is in (28 / (k + 1), 28 / k], z ~ N(28 / 2 (1 / 17 + 1 / 28), ...)
    middle, spread = (1 / 17 + 1 / 28) / 2, (1 / 17 - 1 / 28) / 6
    assert (28 * middle, 28 * spread) == pytest.approx((1.3, 0.1), abs=0.03)
    below = stats.norm.cdf([-np.inf, *(1 / k for k in range(28, 17, -1)), np.inf], middle, spread)
    expected = np.diff(below)[::-1] * 8000  # of 17, 18, ..., 28
    seen = np.bincount(sides.astype(int), minlength=29)[17:]
    assert stats.chisquare(seen, expected).pvalue > 1e-3
    uniform = compose(DIGITS, FlatConfig(rule="crude", counts=(1,), scale_law="uniform"), 1, range(8000))
    sides = (uniform.boxes[:, 0, 2].double() * 50).round().numpy().astype(int)
    assert stats.chisquare(np.bincount(sides, minlength=29)[17:]).pvalue > 1e-3


def test_counts_and_digits_have_their_frequencies_whatever_fits() -> None:
    config = FlatConfig(counts=(0, 1, 3, 3), canvas_px=44)
    batch = compose(DIGITS, config, 2, range(4000))
    assert stats.chisquare(batch.counts.bincount()[[0, 1, 3]].numpy(), [1000, 1000, 2000]).pvalue > 1e-3
    ids = batch.digit_ids[batch.present].bincount(minlength=len(DIGITS))
    assert stats.chisquare(ids.numpy()).pvalue > 1e-3
    roomy = compose(DIGITS, dataclasses.replace(config, canvas_px=90, rule="crude"), 2, range(4000))
    assert torch.equal(roomy.digit_ids, batch.digit_ids)
    assert torch.equal(batch.present, torch.arange(3) < batch.counts[:, None])
    assert torch.equal(batch.labels[batch.present], torch.from_numpy(DIGITS.labels)[batch.digit_ids[batch.present]])
    for name, empty in (("labels", -1), ("digit_ids", -1), ("boxes", 0), ("ink_px", 0)):
        assert (getattr(batch, name)[~batch.present] == empty).all()


@pytest.mark.parametrize("rule", ["strict", "crude"])
def test_a_canvas_depends_on_its_number_alone(rule: str) -> None:
    config = from_mapping(FlatConfig, {"rule": rule, "noise_std": 0.1}, "test")
    together = compose(DIGITS, config, 7, range(20))
    shuffled = torch.tensor([17, 3, 4, 3, 19])
    apart = compose(DIGITS, config, 7, shuffled)
    with digit_stream(DIGITS, config, 5, 7, start_index=5) as stream:
        batches = [next(stream) for _ in range(2)]
    for field in dataclasses.fields(FlatBatch):
        whole = getattr(together, field.name)
        assert torch.equal(getattr(apart, field.name), whole[shuffled])
        assert torch.equal(torch.cat([getattr(batch, field.name) for batch in batches]), whole[5:15])
    assert not torch.equal(compose(DIGITS, config, 8, range(20)).images, together.images)


def test_noise_is_normal_clipped_and_added_to_the_same_canvas() -> None:
    plain, noisy = (compose(DIGITS, FlatConfig(noise_std=std), 1, range(200)) for std in (0.0, 0.1))
    assert torch.equal(plain.boxes, noisy.boxes)
    assert 0 == noisy.images.min() and noisy.images.max() == 1
    dark = noisy.images[plain.images == 0].double().numpy()
    half = dark[dark > 0]
    assert len(half) / len(dark) == pytest.approx(0.5, abs=0.003)
    assert stats.kstest(half[::10], stats.halfnorm(scale=0.1).cdf).pvalue > 1e-3
    grey = (plain.images > 0.4) & (plain.images < 0.6)
    added = (noisy.images - plain.images)[grey].double()
    assert added.std() == pytest.approx(0.1, rel=0.03) and abs(added.mean()) < 4 * 0.1 / math.sqrt(len(added))
    pixels = (noisy.images[plain.counts == 0] > 0).double().flatten(1)
    neighbours = np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(pixels.numel())


def test_a_canvas_too_small_is_an_error_that_says_what_to_change() -> None:
    config = FlatConfig(canvas_px=26, counts=(1, 4), max_tries=20)
    with pytest.raises(ValueError, match=r"canvas_px: expected room .* 20 layouts of 32 tries .* 4 digits\); enlarge canvas_px"):
        compose(DIGITS, config, 0, range(8))
    crude = dataclasses.replace(config, canvas_px=30, rule="crude", counts=(6,))
    with pytest.raises(ValueError, match=r"found no place in 20 layouts \(canvas 0: 6 digits\)"):
        compose(DIGITS, crude, 0, [0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvas_px": 3}, "canvas_px: expected at least 4"),
        ({"counts": [0]}, "counts: expected numbers >= 0, one of them at least 1"),
        ({"counts": []}, "counts: expected numbers >= 0"),
        ({"counts": [-1, 2]}, "counts: expected numbers >= 0"),
        ({"scale_range": [0.9, 0.6]}, "scale_range: expected 0 < low <= high"),
        ({"scale_range": [0.1, 0.6]}, "scale_range: expected .* sides of at least 4 px"),
        ({"rule": "crude", "canvas_px": 27}, "scale_range: expected frames of at most 27 px, the canvas, received 28"),
        ({"rule": "loose"}, "rule: expected one of 'strict', 'crude'"),
        ({"noise_std": -0.1}, "noise_std: expected a finite number >= 0"),
        ({"max_tries": 0}, "max_tries: expected at least 1"),
        ({"digit_px": 2}, "digit_px: expected at least 4"),
    ],
)
def test_configs_out_of_range_name_the_key(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(FlatConfig, changes, "flat.yaml")


def test_seed_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="seed: expected 0 <= seed < 2\\^63, received -1"):
        compose(DIGITS, FlatConfig(), -1, [0])
    with pytest.raises(ValueError, match="indices: expected a list of integers >= 0"):
        compose(DIGITS, FlatConfig(), 0, [3, -1])
    assert compose(DIGITS, FlatConfig(), 0, []).images.shape == (0, 50, 50)


def test_test_canvases_show_test_digits_only(tmp_path: Path) -> None:
    """The blocks of the training file have grey levels that those of the test file have not."""
    write_mnist(tmp_path, train=12, test=5)
    raised = load_digits("test", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        (tmp_path / "train-images-idx3-ubyte").read_bytes().replace(b"\x64", b"\xf0")
    )
    config = FlatConfig(counts=(1,), scale_range=(1.0, 1.0))
    levels = {}
    for split in ("train", "test"):
        images = compose(load_digits(split, tmp_path), config, 0, range(60)).images
        levels[split] = set((images.amax((1, 2)) * 255).round().int().tolist())
    assert levels["test"] == set(raised.images.max((1, 2)).tolist()) == {100, 101, 102, 103, 104}
    assert levels["train"] == {240, *range(101, 112)}


def test_sheet_and_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = compose(DIGITS, FlatConfig(counts=(1,)), 0, range(5))
    sheet = np.asarray(digit_sheet(batch, columns=3))
    assert sheet.shape == (2 * 204 + 4, 3 * 204 + 4, 3)
    left, top, right, bottom = batch.ink_px[0, 0].tolist()
    y, x = (top + bottom) // 2, (left + right) // 2
    grey = round(255 * float(batch.images[0, y, x]))
    assert sheet[4 + 4 * y + 1, 4 + 4 * x + 1].tolist() == [grey] * 3
    assert sheet[4 + 4 * top, 4 + 4 * left].tolist() == [86, 180, 233]
    with pytest.raises(ValueError, match="images: expected at least one"):
        digit_sheet(compose(DIGITS, FlatConfig(), 0, []))
    write_mnist(tmp_path)
    main(DigitSheet(tmp_path / "sheet.png", data_root=tmp_path, count=3))
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (3 * 204 + 4, 204 + 4)
    assert "3 of MNIST format, 12 train digits" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--download: expected --data-root too"):
        main(DigitSheet(tmp_path / "sheet.png", download=True))
