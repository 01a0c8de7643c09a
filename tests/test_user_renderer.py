"""The example of a user's own renderer draws what ours does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from renderer_scenes import ball, box, catalogue_of, table_scene

from renderers import BackendOptions, RasterRenderer, load_renderer

SCRIPT = Path(__file__).parent.parent / "experiments" / "user_renderer.py"


@pytest.mark.skipif(importlib.util.find_spec("open3d") is None, reason="open3d is not installed")
@pytest.mark.filterwarnings("ignore:The TBB threading layer requires TBB")
def test_it_agrees_with_raster() -> None:
    catalogue = catalogue_of(ball(), box())
    objects, view = table_scene(3, 3, 48, 2)
    theirs = load_renderer("callable", catalogue, 1, "none", options=BackendOptions(function=f"{SCRIPT}:draw"))
    mine, ours = theirs.layers(objects, view), RasterRenderer(catalogue, 1).layers(objects, view)
    assert (mine.alpha != ours.alpha).float().mean() < 1e-3
    both = (mine.alpha * ours.alpha) > 0
    assert both.sum() > 300
    torch.testing.assert_close(mine.depth_m[both], ours.depth_m[both], rtol=0, atol=1e-4)
    assert ((mine.rgb - ours.rgb)[both].abs().amax(-1) < 1e-3).float().mean() > 0.99
