"""Finite differences: pose gradients of any renderer."""

from __future__ import annotations

from renderers.differences.counting import CountingRenderer as CountingRenderer
from renderers.differences.renderer import Differences as Differences
from renderers.differences.renderer import FiniteDifferenceRenderer as FiniteDifferenceRenderer
from renderers.differences.schemes import Scheme as Scheme
