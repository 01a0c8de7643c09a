"""Renderer backends, chosen by name.  Axis and unit conversions of a backend happen in its own file and nowhere else."""

from __future__ import annotations

from renderers.differences import FiniteDifferenceRenderer as FiniteDifferenceRenderer
from renderers.errors import BackendMissingError as BackendMissingError
from renderers.loading import GRADIENTS as GRADIENTS
from renderers.loading import BackendOptions as BackendOptions
from renderers.loading import DifferenceOptions as DifferenceOptions
from renderers.loading import Gradient as Gradient
from renderers.loading import load_renderer as load_renderer
from renderers.loading import without_differences as without_differences
from renderers.raster import RasterRenderer as RasterRenderer
