"""MuJoCo as a backend."""

from __future__ import annotations

from renderers.mujoco.painter import GraphicsLibraryError as GraphicsLibraryError
from renderers.mujoco.painter import MujocoPainter as MujocoPainter
