"""Inference by inverting a renderer: types, guide, bound, training, metrics, reports.

Imports no backend and no scene generator.
"""

__version__ = "0.1.0"
