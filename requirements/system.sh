#!/usr/bin/env bash
# Check for the shared libraries and drivers that wheels expect of the system; install them where that can be done without asking.
set -euo pipefail

# One line for each Debian package that is missing: its name, and the renderers that need it.
missing=$("${PYTHON:-python3}" - <<'END'
import ctypes
import itertools
import os
from pathlib import Path


def loads(*libraries):
    """Whether one of these can be loaded."""
    for library in libraries:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def found(folders, patterns):
    """Whether one of these folders holds a file of this kind."""
    return any(next(Path(folder).glob(pattern), None) for folder, pattern in itertools.product(folders, patterns))


# Mesa's drivers are loaded by libEGL from Mesa's own folder, and Vulkan's are named by files; a GPU brings its own.
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")
opengl_driver = loads("libEGL_nvidia.so.0") or found(LIBRARIES, ("dri/swrast_dri.so", "dri/libgallium*.so", "libgallium*.so"))
named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
vulkan_driver = named or found(("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"), ("*.json",))

for package, renderers, there in (
    ("libgomp1", "raster", loads("libgomp.so.1")),
    ("libusb-1.0-0", "open3d", loads("libusb-1.0.so.0")),
    ("libidn2-0", "open3d", loads("libidn2.so.0")),
    ("libudev1", "open3d", loads("libudev.so.1")),
    ("libx11-6", "open3d", loads("libX11.so.6")),
    ("libgl1", "open3d mujoco", loads("libGL.so.1")),
    ("libegl1", "open3d mujoco", loads("libEGL.so.1")),
    ("libgl1-mesa-dri", "mujoco", opengl_driver),
    ("libvulkan1", "open3d-offscreen", loads("libvulkan.so.1")),
    ("mesa-vulkan-drivers", "open3d-offscreen", vulkan_driver),
    ("libatomic1", "mitsuba", loads("libatomic.so.1")),
    ("libllvm19", "mitsuba-llvm", loads("libLLVM.so.19.1", "libLLVM.so.20.1", "libLLVM.so.21.1")),
):
    if not there:
        print(package, renderers)
END
)
[[ -n $missing ]] || exit 0

packages=$(cut -d' ' -f1 <<<"$missing" | paste -sd' ')
renderers=$(cut -d' ' -f2- <<<"$missing" | tr ' ' '\n' | sort -u | paste -sd, | sed 's/,/, /g')

# shellcheck disable=SC2086  # one word a package
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing system libraries:" $packages
    install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
    # one by one where a distribution does not have them all
    if apt-get update -qq && { install $packages || { for package in $packages; do install "$package" || missed=1; done; [[ -z ${missed:-} ]]; }; }; then
        exit 0
    fi
fi
echo "warning: system libraries are missing; until they are there, these renderers will not load or not work well: $renderers" >&2
echo "         sudo apt-get install" $packages >&2
