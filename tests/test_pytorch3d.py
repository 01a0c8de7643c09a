"""What only the PyTorch3D backend does: chunks, soft gradients, textures as they are packed for it, and its absence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, square, table_scene

from inverse_graphics.types import Objects, Texture, map_tensors
from renderers import load_renderer
from renderers.errors import BackendMissingError
from renderers.shading import check_textures


def test_pytorch3d_chunks_change_nothing_and_keep_the_inputs_dtype() -> None:
    pytest.importorskip("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    objects, view = table_scene(2, 3, 16, classes=2)
    objects = map_tensors(lambda x: x.double() if x.is_floating_point() else x, objects)
    view = map_tensors(lambda x: x.double(), view)
    catalogue = catalogue_of(box(), ball(subdivisions=1))
    whole = PyTorch3DRenderer(catalogue).layers(objects, view)
    single = PyTorch3DRenderer(catalogue, max_fragment_bytes=1).layers(objects, view)
    assert whole.rgb.dtype == torch.float64
    assert torch.equal(whole.rgb, single.rgb)
    assert torch.equal(whole.depth_m, single.depth_m)


def test_a_missing_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytorch3d", None)
    monkeypatch.setitem(__import__("sys").modules, "pytorch3d.renderer.mesh.rasterize_meshes", None)
    with pytest.raises(BackendMissingError, match="pip install easypytorch3d"):
        load_renderer("pytorch3d", catalogue_of(box()))


@pytest.mark.parametrize("position_m", [[0.02, 0.01, 0.5], [0.0, 0.0, 0.02], [0.0, 0.0, -1.0]])
def test_soft_gradients_are_finite_even_at_the_near_plane(position_m: list[float]) -> None:
    pytest.importorskip("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    renderer = PyTorch3DRenderer(catalogue_of(box(), ball(subdivisions=1)), 1, mode="soft")
    assert renderer.is_differentiable
    objects = posed([0, 1], [position_m, position_m], [[0.3, 0.2, 0.1], [0.0, 0.0, 0.0]])
    T = objects.T_world_object.clone().requires_grad_()
    image = renderer.render(Objects(objects.class_ids, T, objects.present), camera_view(24, 16, 30.0))
    image.rgb.square().sum().backward()
    assert T.grad is not None
    assert T.grad.isfinite().all()
    assert (T.grad.abs().sum() > 0) == (position_m[2] > 0)


@pytest.mark.parametrize(("near", "textured"), [(False, True), (True, False), (True, True)])
def test_soft_gradients_through_textures_and_near_lights(near: bool, textured: bool) -> None:
    """A plane that fills the image, so that colour alone changes, against central differences."""
    pytest.importorskip("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    mesh, view = square(2.0), camera_view(16, 16, 12.0, light=(0.3, -0.2, -0.9))
    if textured:
        row, column = np.indices((9, 9))
        rgb = (0.5 + 0.4 * np.stack([np.sin(0.7 * column), np.cos(0.7 * row), np.sin(0.4 * (row + column))], -1)).astype(
            np.float32
        )
        uv = 0.5 + mesh.vertices_m[mesh.faces][..., :2] * [0.25, -0.25]
        mesh = dataclasses.replace(mesh, texture=Texture(uv.astype(np.float32), rgb))
    if near:
        light = dataclasses.replace(view.light, position_world=torch.tensor([0.2, -0.1, 0.4]))
        view = dataclasses.replace(view, light=light)
    renderer = PyTorch3DRenderer(catalogue_of(mesh), 1, mode="soft")
    objects = posed([0], [[0.03, -0.02, 1.0]], [[0.2, 0.3, 0.1]])
    weights = torch.randn(16, 16, 3, generator=torch.Generator().manual_seed(0))

    def loss(T: torch.Tensor) -> torch.Tensor:
        return (renderer.render(Objects(objects.class_ids, T, objects.present), view).rgb * weights).sum()

    T = objects.T_world_object.clone().requires_grad_()
    loss(T).backward()
    assert T.grad is not None
    step_m, expected = 0.004, []
    for axis in range(3):
        move = torch.zeros(1, 4, 4)
        move[0, axis, 3] = step_m
        expected.append((loss(objects.T_world_object + move) - loss(objects.T_world_object - move)) / (2 * step_m))
    expected = torch.stack(expected)
    torch.testing.assert_close(T.grad[0, :3, 3], expected, rtol=0.03, atol=0.03 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("uv_shape", "rgb_shape", "value", "message"),
    [
        ((2, 3, 2), (0, 4, 3), 0.5, "texture with texels"),
        ((1, 3, 2), (4, 4, 3), 0.5, r"corner_uv \(2, 3, 2\)"),
        ((2, 3, 2), (4, 4, 3), np.nan, "finite"),
    ],
)
def test_textures_that_cannot_be_looked_up_are_refused(
    uv_shape: tuple[int, ...], rgb_shape: tuple[int, ...], value: float, message: str
) -> None:
    texture = Texture(np.full(uv_shape, value, np.float32), np.ones(rgb_shape, np.float32))
    with pytest.raises(ValueError, match=f"mesh 'square': expected .*{message}"):
        check_textures(catalogue_of(square(0.1), dataclasses.replace(square(0.1), texture=texture)))
