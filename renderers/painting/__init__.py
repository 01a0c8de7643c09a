"""Backends that draw one picture at a time, and the renderers made of them."""

from __future__ import annotations

from renderers.painting.checks import PainterError as PainterError
from renderers.painting.pictures import PictureRenderer as PictureRenderer
from renderers.painting.pictures import WholePictureRenderer as WholePictureRenderer
from renderers.painting.shots import Painter as Painter
from renderers.painting.shots import Picture as Picture
from renderers.painting.shots import Shot as Shot
from renderers.painting.workers import WorkerError as WorkerError
from renderers.painting.workers import WorkerPool as WorkerPool
