"""Write inferred scenes for other programs: poses as JSON and CSV for robots, scenes as GLB for Blender, web pages and engines.

    python experiments/export_scene.py --run runs/scenes3d --scenes 4 --out exported
    python experiments/export_scene.py --dataset data/tabletop --results results/ours_tabletop-test.csv --out exported

poses.json holds the fields of ROS's geometry_msgs/PoseStamped, poses.csv the same as columns; scene_000.glb is the first scene.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from posed_scenes import PosedScene, PosedScenes, scenes_of_dataset, scenes_of_run

from inverse_graphics.interop import (
    CAMERA_FRAME,
    PoseRows,
    in_frame,
    join_rows,
    rows_of_objects,
    write_glb,
    write_poses_csv,
    write_poses_json,
)
from inverse_graphics.runs import claim_run
from inverse_graphics.types import Objects, map_tensors
from renderers import BackendMissingError


@dataclass(frozen=True)
class Arguments:
    """Write what was inferred of some images: poses.json, poses.csv, and a GLB file each."""

    out: Path
    """Folder to write to; new or empty."""
    run: Path | None = None
    """Run directory: its guide looks at held-out scenes.  Give this or --dataset."""
    dataset: Path | None = None
    """Folder of a data set in BOP's format."""
    results: Path | None = None
    """BOP results file with poses for --dataset; the data set's own truth is written without one."""
    split: str = "test"
    """Part of the data set."""
    scenes: int = 4
    """How many images."""
    seed: int = 0
    """--run: of the held-out scenes."""
    frame: Literal["world", "camera"] = "world"
    """Frame of the poses in poses.json and poses.csv; GLB files are always in the world's."""
    stamp_ns: int = 0
    """Time of the first image in nanoseconds; each next one is 1 ns later, so that stamps tell images apart."""


def load(arguments: Arguments) -> PosedScenes:
    """The images that the command line asks for."""
    if (arguments.run is None) == (arguments.dataset is None):
        raise ValueError("--run, --dataset: expected one of the two, received both or neither; give the one to export")
    if arguments.dataset is not None:
        return scenes_of_dataset(arguments.dataset, arguments.split, arguments.results, arguments.scenes)
    if arguments.results is not None:
        raise ValueError("--results: expected none with --run, received a file; its poses come from the run's guide")
    assert arguments.run is not None
    return scenes_of_run(arguments.run, arguments.scenes, arguments.seed, draws=0)


def posed_objects(scene: PosedScene) -> Objects:
    """The estimates, or the truth where there are none."""
    objects = scene.truth if scene.estimates is None else scene.estimates
    if objects is None:
        raise ValueError("--results: expected a file, received none, and the data set keeps its truth secret; give one")
    return objects


def rows_of(scene: PosedScene, names: tuple[str, ...], frame: Literal["world", "camera"], stamp_ns: int) -> PoseRows:
    """Poses of one image."""
    if frame == "world" and not scene.world_known:
        raise ValueError(
            f"--frame: expected camera, received world; image {scene.image_id} of scene {scene.scene_id} does not say where the "
            "world is (cam_R_w2c)"
        )
    objects = map_tensors(lambda tensor: tensor[None], posed_objects(scene))
    score = None if scene.estimates is None else scene.score[None]
    rows = rows_of_objects(objects, names, score, [stamp_ns], [scene.image_id])
    rows = dataclasses.replace(rows, scene_id=np.full(len(rows), scene.scene_id))
    return rows if frame == "world" else in_frame(rows, scene.camera.T_camera_world.double().numpy(), CAMERA_FRAME)


def main(arguments: Arguments) -> None:
    """Infer or read, then write."""
    posed = load(arguments)
    names = posed.catalogue.names
    parts = [rows_of(scene, names, arguments.frame, arguments.stamp_ns + i) for i, scene in enumerate(posed.scenes)]
    rows = join_rows(parts)
    out = claim_run(arguments.out)
    write_poses_json(out / "poses.json", rows)
    write_poses_csv(out / "poses.csv", rows)
    for index, scene in enumerate(posed.scenes):
        write_glb(out / f"scene_{index:03d}.glb", posed.catalogue, posed_objects(scene), scene.camera)
    print(f"{out}: {len(rows)} poses of {len(posed.scenes)} images")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError, BackendMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
