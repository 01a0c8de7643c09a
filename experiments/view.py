"""Look at inferred scenes in a web browser: the image and its camera, truth, estimates and draws of the posterior, in 3-D.

    python experiments/view.py --run runs/scenes3d --num-scenes 16
    python experiments/view.py --dataset data/tabletop --results results/ours_tabletop-test.csv

Needs viser: pip install "viser>=1.1,<2".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from posed_scenes import PosedScenes, scenes_of_dataset, scenes_of_run

from renderers import BackendMissingError

if TYPE_CHECKING:
    from view_server import Viewer

INSTALL_COMMAND = 'pip install "viser>=1.1,<2"'


@dataclass(frozen=True)
class Arguments:
    """Show images with what was inferred of them, as a web page."""

    run: Path | None = None
    """Run directory: its guide looks at held-out scenes.  Give this or --dataset."""
    dataset: Path | None = None
    """Folder of a data set in BOP's format."""
    results: Path | None = None
    """BOP results file with poses for --dataset; only its truth is shown without one."""
    split: str = "test"
    """Part of the data set."""
    num_scenes: int = 8
    """How many images."""
    draws: int = 8
    """--run: scenes drawn from the posterior of each image; 0 for none."""
    seed: int = 0
    """--run: of the held-out scenes and the draws."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """First port to try."""


def load(arguments: Arguments) -> PosedScenes:
    """The images that the command line asks for."""
    if (arguments.run is None) == (arguments.dataset is None):
        raise ValueError("--run, --dataset: expected one of the two, received both or neither; give the one to look at")
    if arguments.draws < 0:
        raise ValueError(f"--draws: expected at least 0, received {arguments.draws}; 0 shows no samples")
    if arguments.dataset is not None:
        return scenes_of_dataset(arguments.dataset, arguments.split, arguments.results, arguments.num_scenes)
    if arguments.results is not None:
        raise ValueError("--results: expected none with --run, received a file; its poses come from the run's guide")
    assert arguments.run is not None
    return scenes_of_run(arguments.run, arguments.num_scenes, arguments.seed, arguments.draws)


def open_viewer(posed: PosedScenes, host: str, port: int) -> Viewer:
    """Start the server.

    Raises:
        ValueError: viser is not installed; says how to install it.
    """
    try:
        from view_server import Viewer
    except ImportError as error:
        if error.name != "viser":
            raise
        message = f"view: expected the package 'viser', which cannot be imported here; install it with `{INSTALL_COMMAND}`"
        raise ValueError(message) from error
    return Viewer(posed, host, port)


def main(arguments: Arguments) -> None:
    """Infer or read, then serve until Ctrl-C."""
    viewer = open_viewer(load(arguments), arguments.host, arguments.port)
    print(f"open {viewer.url} in a browser; Ctrl-C ends", flush=True)
    try:
        viewer.server.sleep_forever()
    except KeyboardInterrupt:
        pass
    finally:
        viewer.server.stop()


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError, BackendMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
