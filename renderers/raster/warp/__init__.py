"""The rasteriser's twin for GPUs, in NVIDIA Warp; see docs/gpu.md.  Nothing here needs Warp until a renderer is built."""

from renderers.raster.warp.renderer import WarpRasterRenderer as WarpRasterRenderer
