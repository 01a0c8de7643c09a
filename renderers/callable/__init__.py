"""A user's own renderer: a Python function, or a program."""

from __future__ import annotations

from renderers.callable.command import CommandPainter as CommandPainter
from renderers.callable.function import FunctionPainter as FunctionPainter
from renderers.callable.function import load_function as load_function
