"""The viewer's page: viser shows what ``view_nodes`` works out, and its sliders say of which image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, final

import trimesh
import viser
from posed_scenes import PosedScene, PosedScenes
from view_nodes import (
    GROUPS,
    Group,
    MeshNode,
    T_world_camera_of,
    drawn_objects,
    field_of_view_rad,
    frustum_edges_m,
    image_plane,
    mesh_nodes,
    overview,
    placement,
    scene_distance_m,
    table_text,
)

from inverse_graphics.interop import to_trimesh
from inverse_graphics.types import Mesh

GROUP_RGB: dict[Group, tuple[int, int, int]] = {"truth": (40, 170, 70), "estimates": (240, 130, 20), "samples": (60, 120, 230)}
"""Colours where meshes do not have their own."""
GROUP_TEXT: dict[Group, str] = {"truth": "Truth (green)", "estimates": "Estimates (orange)", "samples": "Samples (blue)"}
GROUP_OPACITY: dict[Group, float | None] = {"truth": None, "estimates": None, "samples": 0.3}
"""Many samples can stand in one place."""
IMAGE_SHARE, BEHIND_SHARE = 0.25, 1.6
"""Where the image hangs, in distances of the scene: before the objects, and behind them for looking through the camera."""
OVERVIEW_FOV_RAD = 0.85
"""Vertical angle of the view from the side."""
KINDS, OWN = "by kind", "the meshes'"


@final
class Viewer:
    """A page with one image's objects, controls to choose the image, and a server that runs until it is stopped."""

    def __init__(self, posed: PosedScenes, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Start the server.

        Args:
            posed: what can be looked at, at least one image.
            host: address to listen at; 0.0.0.0 lets other machines in.
            port: the first to try; the next one that is free is taken.
        """
        if not posed.scenes:
            raise ValueError("posed: expected at least one image, received none; the data set's part is empty")
        self._posed, self._lock = posed, threading.Lock()
        self._glb: dict[int, bytes] = {}
        self._drawn: dict[str, list[Any]] = {}
        self.server = viser.ViserServer(host=host, port=port, label="inverse graphics", verbose=False)
        self._add_controls()
        tree = self.server.scene
        self._roots = {group: tree.add_frame(f"/{group}", show_axes=False) for group in GROUPS}
        self._grid = tree.add_grid("/table", width=2.0, height=2.0, cell_size=0.1, section_size=0.5)
        camera = self.server.initial_camera
        camera.fov = OVERVIEW_FOV_RAD
        camera.position, camera.look_at, camera.up = overview(self.scene)
        self._draw_image()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    @property
    def scene(self) -> PosedScene:
        """The image that is looked at."""
        return self._posed.scenes[int(self.image.value)]

    def _add_controls(self) -> None:
        gui, scenes = self.server.gui, self._posed.scenes
        gui.configure_theme(show_logo=False, show_share_button=False)
        draws = max((len(scene.samples.present) for scene in scenes if scene.samples is not None), default=0)
        present = {
            "truth": any(scene.truth is not None for scene in scenes),
            "estimates": any(scene.estimates is not None for scene in scenes),
            "samples": draws > 0,
        }
        last = len(scenes) - 1
        self.image = gui.add_slider("Image", min=0, max=max(last, 1), step=1, initial_value=0, disabled=not last)
        self.text = gui.add_markdown("")
        self.shown = {group: gui.add_checkbox(GROUP_TEXT[group], present[group], disabled=not present[group]) for group in GROUPS}
        self.sample = gui.add_slider("Sample", min=1, max=max(draws, 2), step=1, initial_value=1, disabled=draws < 2)
        self.all_samples = gui.add_checkbox("All samples at once", False, disabled=draws < 2)
        self.colours = gui.add_dropdown("Colours", (KINDS, OWN))
        self.labels = gui.add_checkbox("Names", False)
        self.table = gui.add_checkbox("Table", True)
        self.photograph = gui.add_checkbox("Image in space", True)
        self.image_share = gui.add_slider("Image's distance", min=0.05, max=2.0, step=0.05, initial_value=IMAGE_SHARE)
        self.look = gui.add_button("Look through the camera")
        self.look_round = gui.add_button("Look from the side")
        self.picture = gui.add_image(scenes[0].image_srgb, label="image", format="png")
        self._connect()

    def _connect(self) -> None:
        """Draw what a control changes, and only that."""
        for control in (self.image, self.colours, self.labels):
            control.on_update(self._on(self._draw_image))
        for control in (self.sample, self.all_samples):
            control.on_update(self._on(self._draw_samples))
        for control in (self.image_share, self.photograph, self.table, *self.shown.values()):
            control.on_update(self._on(self._draw_camera))
        self.look.on_click(self._look_through)
        self.look_round.on_click(self._look_round)

    def _on(self, draw: Callable[[], None]) -> Callable[[object], None]:
        """A callback that draws; viser calls from several threads."""

        def update(_: object) -> None:
            with self._lock:
                draw()

        return update

    def _draw_image(self) -> None:
        """Everything of the image that the slider says."""
        scene, names = self.scene, self._posed.catalogue.names
        with self.server.atomic():
            self._draw_group("truth", () if scene.truth is None else mesh_nodes("truth", scene.truth, names))
            self._draw_group("estimates", () if scene.estimates is None else mesh_nodes("estimates", scene.estimates, names))
            self._draw_samples()
            self._draw_camera()
        self.server.scene.set_up_direction(overview(scene)[2])
        self.text.content = table_text(scene, names)
        self.picture.image = scene.image_srgb

    def _draw_samples(self) -> None:
        objects = drawn_objects(self.scene, None if self.all_samples.value else int(self.sample.value) - 1)
        self._draw_group("samples", () if objects is None else mesh_nodes("samples", objects, self._posed.catalogue.names))

    def _draw_group(self, group: Group, nodes: tuple[MeshNode, ...]) -> None:
        """The meshes of a group in the place of those that were there."""
        self._clear(group)
        drawn: list[Any] = []
        for node in nodes:
            mesh = self._posed.catalogue.meshes[node.class_id]
            drawn.append(self._draw_own(node, mesh) if self.colours.value == OWN else self._draw_kind(group, node, mesh))
            if self.labels.value and group != "samples":
                top_m = (0.0, 0.0, float(mesh.vertices_m[:, 2].max()) + 0.01)
                drawn.append(self.server.scene.add_label(f"{node.name}/name", node.name.rpartition("/")[2], position=top_m))
        self._drawn[group] = drawn

    def _draw_kind(self, group: Group, node: MeshNode, mesh: Mesh) -> viser.MeshHandle:
        """In the colour of its group; the truth as wires where estimates stand beside it."""
        wires = group == "truth" and self.scene.estimates is not None
        return self.server.scene.add_mesh_simple(
            node.name,
            mesh.vertices_m,
            mesh.faces,
            color=GROUP_RGB[group],
            opacity=GROUP_OPACITY[group],
            wireframe=wires,
            flat_shading=not wires,
            side="front" if mesh.watertight else "double",
            position=node.placement.position_m,
            wxyz=node.placement.quat_wxyz,
        )

    def _draw_own(self, node: MeshNode, mesh: Mesh) -> viser.GlbHandle:
        """In its own colours, which a GLB file carries."""
        if node.class_id not in self._glb:
            content: Any = trimesh.Scene(to_trimesh(mesh)).export(file_type="glb", include_normals=True)
            self._glb[node.class_id] = bytes(content)
        data, at = self._glb[node.class_id], node.placement
        return self.server.scene.add_glb(node.name, data, position=at.position_m, wxyz=at.quat_wxyz)

    def _draw_camera(self) -> None:
        """The frustum, the image in it, and what is switched on."""
        scene, depth_m = self.scene, float(self.image_share.value) * scene_distance_m(self.scene)
        plane = image_plane(scene.camera, depth_m)
        self._clear("camera")
        lines = self.server.scene.add_line_segments(
            "/camera/edges", frustum_edges_m(scene.camera, depth_m), (40, 40, 40), thickness=1.5, thickness_units="screen"
        )
        photograph = self.server.scene.add_image(
            "/camera/image",
            scene.image_srgb,
            plane.width_m,
            plane.height_m,
            format="png",
            position=plane.placement.position_m,
            wxyz=plane.placement.quat_wxyz,
            visible=self.photograph.value,
            cast_shadow=False,
            receive_shadow=False,
        )
        self._drawn["camera"] = [lines, photograph]
        for group, root in self._roots.items():
            root.visible = self.shown[group].value
        self._grid.visible = self.table.value and scene.world_known

    def _clear(self, name: str) -> None:
        for handle in reversed(self._drawn.pop(name, [])):
            handle.remove()

    def _look_through(self, event: viser.GuiEvent[Any]) -> None:
        """Put the visitor where the camera is; the image hangs behind the objects, so that they cover what they explain."""
        if event.client is None:
            return
        self.image_share.value = BEHIND_SHARE
        camera, at = event.client.camera, placement(T_world_camera_of(self.scene.camera))
        with event.client.atomic():
            camera.wxyz, camera.position = at.quat_wxyz, at.position_m
            camera.fov = field_of_view_rad(self.scene.camera, camera.aspect)

    def _look_round(self, event: viser.GuiEvent[Any]) -> None:
        """Put the visitor beside the camera."""
        if event.client is None:
            return
        self.image_share.value = IMAGE_SHARE
        camera = event.client.camera
        with event.client.atomic():
            camera.position, camera.look_at, camera.up_direction = overview(self.scene)
            camera.fov = OVERVIEW_FOV_RAD
