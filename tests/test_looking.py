"""Looking again: where, and that the bound decides."""

from __future__ import annotations

import pytest
import torch

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.evaluation import infer_sprites
from inverse_graphics.sprites.looking import Looking, look
from inverse_graphics.sprites.objective import ImageModel, count_log_prior, terms_of
from inverse_graphics.sprites.steps import Variant
from tests.sprite_samples import tiny_sprites

AGAIN = Looking((0.2, 0.5), directions=4, image=ImageModel(sigma=0.5), count_ratio=1e-2)


def test_moves_are_rings_round_no_move() -> None:
    moves = Looking((0.25, 0.5), directions=4).moves(0.4)
    assert moves.shape == (9, 2)
    # a window of 0.4 of the canvas is 0.8 wide where the canvas reaches from -1 to 1
    torch.testing.assert_close(moves.norm(dim=-1), torch.tensor([0.0, *[0.2] * 4, *[0.4] * 4]))
    torch.testing.assert_close(moves[1:5].sum(0), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", ["air", "dair"])
def test_the_highest_bound_of_all_first_places_is_kept(variant: Variant) -> None:
    torch.manual_seed(0)
    model = tiny_sprites(variant).eval()
    images = torch.rand(5, 20, 20, generator=torch.Generator().manual_seed(1))
    config, log_p = model.config, count_log_prior(model.config.max_objects, AGAIN.count_ratio)

    def bounds(posterior: object) -> torch.Tensor:
        return terms_of(posterior, images, AGAIN.image, config.where_mean, config.where_std, log_p).bound  # type: ignore[arg-type]

    with torch.no_grad():
        moves = AGAIN.moves(1 / config.where_mean[0])
        each = torch.stack([bounds(model(images, move=move.expand(5, 2))) for move in moves])
        found = look(model, images, AGAIN)
    torch.testing.assert_close(bounds(found), each.amax(0))
    assert (each.argmax(0) > 0).any(), "no image is explained better from another place: the test shows nothing"
    if variant == "air":
        first = model(images).drawn_where[:, 0, 1:].detach()
        torch.testing.assert_close(found.drawn_where[:, 0, 1:] - first, moves[each.argmax(0)], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(infer_sprites(model, images, None, AGAIN).where, found.drawn_where)


def test_without_reaches_images_are_explained_once() -> None:
    model = tiny_sprites("dair").eval()
    images = torch.rand(2, 20, 20)
    torch.testing.assert_close(look(model, images, Looking(())).drawn_where, model(images).drawn_where)


def test_reaches_that_make_no_sense_are_refused() -> None:
    with pytest.raises(FieldError, match="reaches"):
        Looking((0.2, 0.0))
    with pytest.raises(FieldError, match="reaches"):
        Looking((0.2,), directions=0)


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (255.0, "255"), (-1.0, "-1")])
def test_images_that_are_not_grey_values_are_refused(value: float, shown: str) -> None:
    images = torch.rand(3, 20, 20)
    images[1, 4, 5] = value
    with pytest.raises(ValueError, match=f"expected finite grey values in 0..1, received {shown} in image 1"):
        look(tiny_sprites("dair").eval(), images, Looking(()))
