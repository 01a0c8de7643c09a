"""The distribution: what is installed, what is pinned, what may import what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from inverse_graphics.types import Camera

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("inverse_graphics", "renderers", "scenes", "assets")
LOCKS = ("bootstrap", "runtime", "dev", "light")


def project() -> dict:
    """Return the [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    """Return name -> version of a lock file."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", text, re.MULTILINE))


def imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_packages_are_those_of_this_repository(tmp_path: Path) -> None:
    """The names are short: another distribution's ``assets`` or ``scenes`` must not be picked up, from any folder."""
    code = f"from importlib.util import find_spec\nfor name in {PACKAGES!r}: print(find_spec(name).origin)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [Path(line) for line in run.stdout.split()] == [ROOT / name / "__init__.py" for name in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_modules_is_a_package(package: str) -> None:
    """A folder without __init__.py would be left out of the distribution."""
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("inverse_graphics", {"renderers", "scenes", "assets", "experiments", "benchmarks", "tests"}),
        ("renderers", {"experiments", "benchmarks", "tests"}),
        ("scenes", {"experiments", "benchmarks", "tests"}),
        ("assets", {"experiments", "benchmarks", "tests"}),
    ],
)
def test_layers_are_kept_apart(package: str, forbidden: set[str]) -> None:
    """The core imports no backend, and nothing installed imports what is not."""
    found = {(path.name, name) for path in (ROOT / package).rglob("*.py") for name in imports(path) & forbidden}
    assert found == set()


def test_third_party_imports_are_declared() -> None:
    """What an installed module imports is a dependency, or an optional backend."""
    declared = {re.split(r"[<>=\[]", line)[0].lower() for line in project()["dependencies"]}
    optional = {"open3d", "pytorch3d", "mujoco", "warp"}
    known = {"yaml": "pyyaml", "PIL": "pillow"}
    used = {name for package in PACKAGES for path in (ROOT / package).rglob("*.py") for name in imports(path)}
    third_party = used - set(sys.stdlib_module_names) - set(PACKAGES) - optional
    assert {known.get(name, name) for name in third_party} <= declared


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    """Every pin carries a hash, and no lock says where packages come from: that is for the user's configuration."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if re.match("[a-z0-9]", block))
    assert "://" not in text
    assert "index-url" not in text


def test_locks_agree() -> None:
    """The dev and light environments hold the versions of the default one, and the default one holds what it promises."""
    runtime = pins("runtime")
    for lock in LOCKS:
        shared = pins(lock).keys() & runtime.keys()
        assert {name: pins(lock)[name] for name in shared} == {name: runtime[name] for name in shared}
    assert (runtime["torch"], runtime["easypytorch3d"]) == ("2.12.1", "0.7.9.post1")
    assert not [name for name in pins("light") if re.match("torch|triton|nvidia|open3d|easypytorch3d", name)]


def test_conda_environment_has_the_pins_of_the_locks() -> None:
    """environment.yml is for conda users: it installs the same locks."""
    lines = (ROOT / "environment.yml").read_text().split("\n")
    assert [line.split("-r ")[1] for line in lines if "-r " in line] == ["requirements/runtime.txt", "requirements/dev.txt"]


def test_versions_agree() -> None:
    """The changelog's newest heading is the version of the distribution."""
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == project()["version"]


def test_a_wrong_shape_raises() -> None:
    """Annotations are checked in tests: a 3x4 pose where 4x4 is documented does not get through."""
    with pytest.raises(TypeError, match="T_camera_world"):
        Camera(K_px=torch.eye(3), T_camera_world=torch.eye(4)[:3], width_px=8, height_px=8)


def test_batch_dimensions_must_agree() -> None:
    """Dimensions of one name are one number across the fields of a dataclass."""
    with pytest.raises(TypeError):
        Camera(K_px=torch.eye(3).expand(2, 3, 3), T_camera_world=torch.eye(4).expand(5, 4, 4), width_px=8, height_px=8)
