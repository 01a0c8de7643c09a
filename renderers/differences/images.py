"""Finite differences of whole images, for renderers whose image is not a merge of layers: shadows, light from object to object.

Objects of a scene that do not touch on screen move in one picture; a pixel's change counts for the object in whose place it lies,
the box that holds it where it is and wherever it is moved to, and some pixels around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.compositing import draw_rgb, prefix_images
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Objects, View, map_tensors
from renderers.differences.groups import group_apart, image_boxes, inside, touching
from renderers.differences.layers import MakeProbes
from renderers.differences.schemes import Probes, chunks
from renderers.tangents import matrix_gradient

DrawImages = Callable[[Objects, View], Tensor]
"""Images [q c h w 3] of scenes [q]."""


def draw_single(renderer: Renderer, objects: Objects, view: View) -> Float[Tensor, "q 1 h w 3"]:
    """One image a scene."""
    return draw_rgb(renderer, objects, view)[:, None]


def draw_prefixes(renderer: Renderer, objects: Objects, view: View) -> Float[Tensor, "q c h w 3"]:
    """The images of the first 0, 1, ..., n objects."""
    return prefix_images(renderer, objects, view)


@dataclass(frozen=True)
class WholeImages:
    """A batch of scenes and how their images are drawn and differenced."""

    objects: Objects
    """[b n] objects; their poses are given apart."""
    view: View
    """[b] views."""
    draw: DrawImages
    """Draws some of the scenes, possibly several times over."""
    make_probes: MakeProbes
    """Chooses the motions."""
    corners_m: Float[Tensor, "b n 8 3"]
    """Corners of the boxes of the objects' meshes, object frame."""
    pad_px: float
    """How far around its box an object may change the image."""


@dataclass(frozen=True)
class Moves:
    """What is drawn for one gradient: each group of objects of each scene, along each probe."""

    probes: Probes
    """The motions."""
    boxes: Int[Tensor, "b n 4"]
    """The objects' places, see ``groups.image_boxes``."""
    groups: Int[Tensor, "b n"]
    """Which objects of a scene move together."""
    scene: Int[Tensor, "g"]
    """Scene of each group."""
    group: Int[Tensor, "g"]
    """Its number in that scene."""


@dataclass(frozen=True)
class Changes:
    """What some of the moves changed."""

    images: Float[Tensor, "j c h w 3"]
    """Images ahead minus images behind, one a move."""
    scenes: Int[Tensor, "j"]
    """Their scenes."""
    move: Int[Tensor, "r"]
    """For each object that moved: which of the images shows it,"""
    probe: Int[Tensor, "r"]
    """along which probe it moved,"""
    slot: Int[Tensor, "r"]
    """and in which slot of the scene it is."""


class DifferencedImages(torch.autograd.Function):
    """Images of a black box, drawn before; on the way back, their changes count for the objects in whose places they lie."""

    @staticmethod
    def forward(ctx: Any, T_world_object: Tensor, images: Tensor, whole: WholeImages) -> Tensor:
        """Hand on the images [b c h w 3] of the poses [b n 4 4]."""
        ctx.save_for_backward(T_world_object, images)
        ctx.whole = whole
        return images.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Contract changes with gradients, place by place."""
        T, images = ctx.saved_tensors
        if images.numel() == 0 or T.numel() == 0:
            return torch.zeros_like(T), None, None
        moves = plan_moves(ctx.whole, T)
        slots = T.new_zeros(len(moves.probes), *T.shape[:2])
        for changes in image_changes(ctx.whole, moves, T, images):
            mine = changes.scenes[changes.move], changes.slot
            places = inside(moves.boxes[mine], *images.shape[-3:-1])
            weighted = (changes.images * grads[0][changes.scenes]).sum((1, -1))
            slots[changes.probe, *mine] = (weighted[changes.move] * places).sum((-2, -1)).to(slots)
        return matrix_gradient(T, moves.probes.basis, moves.probes.slopes(slots)), None, None


def image_jacobian(
    whole: WholeImages, T_world_object: Float[Tensor, "b n 4 4"], images: Float[Tensor, "b 1 h w 3"]
) -> Float[Tensor, "b n p h w 3"]:
    """Derivatives of each scene's image by its objects' motions, of probes that move along one tangent each."""
    moves = plan_moves(whole, T_world_object)
    scenes, slots, tangents = moves.probes.steps.shape
    out = images.new_zeros(scenes, slots, tangents, *images.shape[2:])
    for changes in image_changes(whole, moves, T_world_object, images):
        mine = changes.scenes[changes.move], changes.slot
        places = inside(moves.boxes[mine], *images.shape[-3:-1])
        out[*mine, changes.probe] = changes.images[changes.move, 0] * places[..., None]
    return out / (moves.probes.width * moves.probes.steps[..., None, None, None]).to(out)


def plan_moves(whole: WholeImages, T_world_object: Float[Tensor, "b n 4 4"]) -> Moves:
    """Choose the motions, find the objects' places at all of them and group the objects whose places do not touch."""
    probes = whole.make_probes(T_world_object)
    poses = torch.cat([T_world_object[None], probes.moved(T_world_object, slice(None))])
    boxes = image_boxes(whole.corners_m, poses, whole.view.camera, whole.pad_px)
    groups = group_apart(touching(boxes), whole.objects.present)
    numbers = torch.arange(groups.shape[-1], device=groups.device)
    scene, group = (groups[:, :, None] == numbers).any(1).nonzero().unbind(-1)
    return Moves(probes, boxes, groups, scene, group)


def image_changes(
    whole: WholeImages, moves: Moves, T_world_object: Float[Tensor, "b n 4 4"], images: Float[Tensor, "b c h w 3"]
) -> Iterator[Changes]:
    """Draw all moves, as many at once as memory allows, and compare."""
    probes, groups = moves.probes, len(moves.scene)
    # [sides m b n 4 4]
    moved = probes.moved(T_world_object, slice(None)).unflatten(0, (probes.sides, len(probes)))
    image_bytes = images[0].numel() * images.element_size()
    for chosen in chunks(len(probes) * groups, probes.sides * image_bytes):
        number = torch.arange(chosen.start, chosen.stop, device=moves.scene.device)
        probe, scene = number // groups, moves.scene[number % groups]
        moving = moves.groups[scene] == moves.group[number % groups, None]
        poses = torch.where(moving[..., None, None], moved[:, probe, scene], T_world_object[scene]).flatten(0, 1)
        drawn = _draw(whole, scene.repeat(probes.sides), poses)
        behind = drawn[len(scene) :] if probes.both_sides else images[scene]
        move, slot = moving.nonzero().unbind(-1)
        yield Changes(drawn[: len(scene)] - behind, scene, move, probe[move], slot)


def _draw(whole: WholeImages, scene: Int[Tensor, "q"], T_world_object: Float[Tensor, "q n 4 4"]) -> Float[Tensor, "q c h w 3"]:
    """Some of the scenes at other poses."""
    objects = Objects(whole.objects.class_ids[scene], T_world_object, whole.objects.present[scene])
    return whole.draw(objects, map_tensors(lambda x: x[scene], whole.view))
