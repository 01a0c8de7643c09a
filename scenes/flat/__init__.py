"""Flat images: canvases of handwritten digits, and handwritten characters with their pen strokes."""

from scenes.flat.characters import (
    CharacterBatch,
    Characters,
    character_stream,
    draw_characters,
    select,
    split_by_alphabet,
    split_by_drawer,
)
from scenes.flat.digits import Digits, embedded_digits, load_digits, mnist_digits
from scenes.flat.downloads import MNIST_FILES, OMNIGLOT_FILES, RemoteFile, fetch
from scenes.flat.multi_mnist import FlatBatch, FlatConfig, compose, digit_stream
from scenes.flat.omniglot import load_omniglot
from scenes.flat.pen_strokes import PenConfig, PenDrawings, draw_pen_characters, embedded_characters
from scenes.flat.sheet import digit_sheet, stroke_sheet

__all__ = [
    "MNIST_FILES",
    "OMNIGLOT_FILES",
    "CharacterBatch",
    "Characters",
    "Digits",
    "FlatBatch",
    "FlatConfig",
    "PenConfig",
    "PenDrawings",
    "RemoteFile",
    "character_stream",
    "compose",
    "digit_sheet",
    "digit_stream",
    "draw_characters",
    "draw_pen_characters",
    "embedded_characters",
    "embedded_digits",
    "fetch",
    "load_digits",
    "load_omniglot",
    "mnist_digits",
    "select",
    "split_by_alphabet",
    "split_by_drawer",
    "stroke_sheet",
]
