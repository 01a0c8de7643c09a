"""Reading and writing windows against torch's own sampler."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from inverse_graphics.sprites.windows import read_windows, sample, sample_by_products, window_boxes_px, write_windows

WHERE = torch.tensor([[1.0, 0.0, 0.0], [2.5, 0.3, -0.4], [3.0, -0.9, 0.95], [0.8, 0.2, 0.1]], dtype=torch.float64)


def sampled(images: torch.Tensor, zoom: torch.Tensor, shift: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    theta = torch.zeros(len(images), 2, 3, dtype=images.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, [len(images), images.shape[1], *size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def test_reading_agrees_with_the_sampler() -> None:
    images = torch.rand(4, 2, 24, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = sampled(images, 1 / WHERE[:, 0], WHERE[:, 1:], (10, 10))
    torch.testing.assert_close(read_windows(images, WHERE, 10), expected)


def test_writing_agrees_with_the_sampler() -> None:
    sprites = torch.rand(4, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = sampled(sprites, WHERE[:, 0], -WHERE[:, 1:] * WHERE[:, :1], (24, 30))
    torch.testing.assert_close(write_windows(sprites, WHERE, 24, 30), expected)


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(2, 1, 12, 12, dtype=torch.float64, generator=generator).requires_grad_()
    where = torch.tensor([[2.03, 0.11, -0.27], [1.57, -0.33, 0.41]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i, w: read_windows(i, w, 5), (images, where), eps=1e-7, atol=1e-5)
    sprites = torch.rand(2, 1, 5, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, w: write_windows(s, w, 12, 12), (sprites, where), eps=1e-7, atol=1e-5)


def test_what_is_written_into_a_window_of_one_sample_a_pixel_is_read_back() -> None:
    sprites = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    where = torch.tensor([[3.0, 0.25, -0.25]])  # 8 of 24 pixels, on whole pixels
    canvas = write_windows(sprites, where, 24, 24)
    left, top, right, bottom = (int(x) for x in window_boxes_px(where, 24)[0].round())
    assert (right - left, bottom - top) == (8, 8)
    torch.testing.assert_close(canvas[0, 0, top:bottom, left:right], sprites[0, 0])
    assert float(canvas.sum()) == pytest.approx(float(sprites.sum()), rel=1e-5)
    torch.testing.assert_close(read_windows(canvas, where, 8), sprites)


def test_windows_wider_than_twice_the_canvas_are_held_there() -> None:
    images = torch.rand(1, 1, 8, 8)
    flat, held = torch.tensor([[-3.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.0, 0.0]])
    torch.testing.assert_close(read_windows(images, flat, 6), read_windows(images, held, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_pass_and_products_of_matrices_agree_also_at_borders(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(6, 2, 7, 9, dtype=dtype, generator=generator).requires_grad_()
    # samples on pixels and on the border, all outside, coarser and finer than pixels
    grids = [
        [-1, -1, 1, 1],
        [0, 0, 0.5, 2],
        [-30, 2, 1, 1],
        [2.3, 40, 1, 1],
        [-5.3, -4.6, 3.13, 2.87],
        [6.005, 8.003, 0.01, 0.01],
    ]
    steps = torch.tensor(grids, dtype=dtype, requires_grad=True)
    weights = torch.rand(6, 2, 5, 8, dtype=dtype, generator=generator)
    found, expected = sample(images, steps, 5, 8), sample_by_products(images, steps, 5, 8)
    torch.testing.assert_close(found, expected)
    # at whole pixels the slope is one side's or the other's
    off = torch.tensor([False, False, True, True, True, True])
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), (images, steps)),
        torch.autograd.grad((expected * weights).sum(), (images, steps)),
        strict=True,
    ):
        keep = off if mine.dim() == 2 else torch.ones(6, dtype=torch.bool)
        torch.testing.assert_close(mine[keep], theirs[keep], rtol=1e-4, atol=1e-5)


def test_a_window_that_is_no_number_reads_none() -> None:
    images = torch.rand(2, 1, 8, 8)
    where = torch.tensor([[2.0, float("nan"), 0.0], [2.0, 0.0, 0.0]], requires_grad=True)
    crops = read_windows(images, where, 4)
    assert crops[0].isnan().all() and crops[1].isfinite().all()
    (gradient,) = torch.autograd.grad(crops.sum(), where)
    assert gradient[0].isnan().any() and gradient[1].isfinite().all()


def test_windows_far_outside_are_empty() -> None:
    where = torch.tensor([[3.0, 1e6, 0.0], [3.0, 0.0, -1e9], [1e7, 5.0, 5.0]], requires_grad=True)
    sprites = torch.rand(3, 1, 4, 4, requires_grad=True)
    canvas = write_windows(sprites, where, 6, 6)
    assert (canvas == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(canvas.sum(), (sprites, where)))
