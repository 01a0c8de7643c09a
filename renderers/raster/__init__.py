"""Our batched, differentiable rasteriser."""

from renderers.raster.images import Surfaces as Surfaces
from renderers.raster.normal_equations import NormalEquations as NormalEquations
from renderers.raster.renderer import RasterRenderer as RasterRenderer
