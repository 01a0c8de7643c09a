"""What the README shows runs as it stands, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from assets import load_catalogue
from inverse_graphics.checkpoints import MODEL_FILE, save_model
from inverse_graphics.guides import GuideConfig, RecurrentGuide
from inverse_graphics.symmetry import yaw_folds
from scenes import load_scene_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With an untrained guide in place of the run that ``make scenes3d`` leaves."""
    monkeypatch.chdir(ROOT)
    config = load_scene_config("scenes/tabletop.yaml")
    catalogue = load_catalogue(config.catalogue, config.classes)
    torch.manual_seed(0)
    folds = tuple(yaw_folds(mesh.symmetry) for mesh in catalogue.meshes)
    save_model(tmp_path / MODEL_FILE, RecurrentGuide(GuideConfig(3, folds, 64, 64)))
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert 'load_guide("runs/scenes3d")' in example
    exec(compile(example.replace("runs/scenes3d", str(tmp_path)), "README.md", "exec"), {})
    assert "torch.Size([16, 64, 64, 3])" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []
