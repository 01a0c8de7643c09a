#!/usr/bin/env bash
# Check for the shared libraries that wheels expect of the system; install them where that can be done without asking.
set -euo pipefail

missing=$("${PYTHON:-python3}" - <<'END'
import ctypes

# library -> Debian package; all but libgomp (numba's threads) are for Open3D
LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
}
for library, package in LIBRARIES.items():
    try:
        ctypes.CDLL(library)
    except OSError:
        print(package)
END
)
[[ -n $missing ]] || exit 0

# shellcheck disable=SC2086  # one word a package
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing system libraries:" $missing
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "warning: system libraries are missing; the open3d backend will not load until they are there:" >&2
    echo "         sudo apt-get install" $missing >&2
fi
