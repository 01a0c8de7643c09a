"""Look at a scene config: ``python -m scenes --config scenes/tabletop.yaml --out sheet.png``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from assets import load_catalogue
from renderers import load_renderer
from scenes.config import load_scene_config
from scenes.generator import generate
from scenes.prior import ScenePrior
from scenes.sheet import contact_sheet


@dataclass(frozen=True)
class Arguments:
    """Draw a contact sheet of the first scenes of a config."""

    config: Path
    """Scene config, YAML."""
    out: Path
    """Picture to write, PNG or another format that Pillow knows by its ending."""
    count: int = 24
    """How many scenes."""
    seed: int = 0
    """Seed of the scenes."""
    renderer: str = "raster"
    """Backend that draws them."""


def main(arguments: Arguments) -> None:
    """Draw the scenes and write the picture."""
    if arguments.count < 1:
        raise ValueError(f"count: expected at least 1, received {arguments.count}; ask for some scenes.")
    config = load_scene_config(arguments.config)
    catalogue = load_catalogue(config.catalogue)
    renderer = load_renderer(arguments.renderer, catalogue, samples_per_axis=config.samples_per_axis)
    batch = generate(ScenePrior(config, catalogue), renderer, arguments.seed, range(arguments.count))
    contact_sheet(batch, catalogue.names).save(arguments.out)
    print(f"{arguments.out}: {arguments.count} scenes, {int(batch.scene.objects.count.sum())} objects")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
