"""What every test starts from: shapes checked at run time, a fixed seed, one thread, no screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

CHECKED_PACKAGES = ("inverse_graphics", "renderers", "scenes", "assets")
"""Packages whose annotated functions and dataclasses check types and shapes while the tests run."""


class PlainKernelFinder(MetaPathFinder):
    """Finds modules of kernels as they are: numba and Warp compile the functions themselves, not a checking wrapper."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the unchanged module where its name ends in ``kernels``; leave the others to the next finder."""
        package, _, name = fullname.rpartition(".")
        if package.split(".")[0] in CHECKED_PACKAGES and name.endswith("kernels"):
            return PathFinder.find_spec(fullname, path, target)
        return None


loaded_too_early = sorted(name for name in sys.modules if name.split(".")[0] in CHECKED_PACKAGES)
if loaded_too_early:
    raise ImportError(f"these modules were imported before their types could be checked: {', '.join(loaded_too_early)}")
install_import_hook(list(CHECKED_PACKAGES), "beartype.beartype")
sys.meta_path.insert(0, PlainKernelFinder())

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")
torch.set_num_threads(1)  # small tensors: a second thread waits more than it works, and on a busy machine it stalls


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Start each test from the same state of the global generators, whatever ran before; restore defaults afterwards."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries draw from it
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
