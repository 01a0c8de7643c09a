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
    """What an installed module imports is a dependency, or an optional backend or what comes with one."""
    extras = [line for lines in project()["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[<>=\[]", line)[0].lower() for line in [*project()["dependencies"], *extras]}
    known = {"yaml": "pyyaml", "PIL": "pillow", "pytorch3d": "easypytorch3d", "warp": "warp-lang", "sklearn": "scikit-learn"}
    brought = {"drjit": "mitsuba", "OpenGL": "mujoco", "lxml": "yourdfpy"}
    used = {name for package in PACKAGES for path in (ROOT / package).rglob("*.py") for name in imports(path)}
    third_party = used - set(sys.stdlib_module_names) - set(PACKAGES)
    assert {brought.get(name, known.get(name, name)) for name in third_party} <= declared


def test_the_tests_run_every_extra() -> None:
    """What the default environment goes without is in the group that the tests install, in the extras' own words."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, group = project()["optional-dependencies"], text["dependency-groups"]["dev"]
    (everything,) = extras["backends"]
    names = re.findall(r"[a-z0-9]+", everything.partition("[")[2])
    assert names == sorted(set(extras) - {"backends", "gpu", "pytorch3d", "urdf", "viewer"})
    names += ["urdf", "viewer"]
    installed = pins("runtime") | pins("dev")
    for name in names:
        (requirement,) = extras[name]
        assert name in pins("runtime") or requirement in [line.partition(" ;")[0] for line in group]
        assert re.split(r"[<>=]", requirement)[0] in installed


def test_errors_name_the_requirements_of_the_extras() -> None:
    """``pip install`` and what an extra asks for: it works in any environment, wherever the checkout is."""
    folders = ("renderers", "assets", "experiments")
    source = "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    said = {double or single for double, single in re.findall(r"""^INSTALL_COMMAND = (?:"(.*)"|'(.*)')$""", source, re.MULTILINE)}
    extras = {name: lines for name, lines in project()["optional-dependencies"].items() if name != "backends"}
    quoted = {" ".join(f'"{line}"' if re.search("[<>]", line) else line for line in lines) for lines in extras.values()}
    assert said == {f"pip install {requirements}" for requirements in quoted}
    table = (ROOT / "docs" / "install.md").read_text()
    assert all(f"`{name}`" in table for name in [*extras, "backends"])


def test_errors_name_the_system_packages_that_the_set_up_looks_for() -> None:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "renderers").rglob("*.py")))
    found = re.findall(r'"(?:apt-get install |)(lib[a-z0-9]+[a-z0-9. -]*)"', source)
    named = " ".join(words for words in found if " " in words and "osmesa" not in words)
    looked_for = (ROOT / "requirements" / "system.sh").read_text()
    assert {"libegl1", "libgl1-mesa-dri", "mesa-vulkan-drivers", "libusb-1.0-0"} <= set(named.split())
    assert [package for package in named.split() if f'("{package}"' not in looked_for] == []


@pytest.mark.parametrize(("user", "apt_works"), [(1000, True), (0, False), (0, True)])
def test_missing_system_libraries_are_installed_or_named(tmp_path: Path, user: int, apt_works: bool) -> None:
    """Stand-ins for the interpreter that looks for libraries, for id and for apt-get."""
    scripts = {
        "python3": "echo libvulkan1 open3d-offscreen; echo libgl1 open3d mujoco",
        "id": f"echo {user}",
        "apt-get": f"echo $* >> {tmp_path}/log; {'true' if apt_works else 'false'}",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": "python3"}
    script = ["bash", str(ROOT / "requirements" / "system.sh")]
    run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    installed = user == 0 and apt_works
    assert ("warning" not in run.stderr) == installed
    if installed:
        assert "install -y -qq --no-install-recommends libvulkan1 libgl1" in (tmp_path / "log").read_text()
    else:
        assert "mujoco, open3d, open3d-offscreen\n" in run.stderr
        assert "sudo apt-get install libvulkan1 libgl1\n" in run.stderr
        assert (tmp_path / "log").exists() == (user == 0)


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
    assert not [
        name
        for name in pins("light")
        if re.match("torch|triton|nvidia|open3d|easypytorch3d|mujoco|mitsuba|drjit|pybullet|pyopengl", name)
    ]


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
