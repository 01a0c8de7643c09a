"""Mitsuba 3 as a backend."""

from __future__ import annotations

from renderers.mitsuba.painter import MitsubaPainter as MitsubaPainter
