"""Our batched rasteriser."""

from renderers.raster.renderer import RasterRenderer as RasterRenderer
