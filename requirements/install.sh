#!/usr/bin/env bash
# Install locked packages and this project into a virtual environment, which is made where there is none.
#
#   requirements/install.sh ENVIRONMENT LOCK...
#
# PYTHON     the interpreter the environment is made from (python3); needs the modules venv and pip, not ensurepip
# INSTALLER  uv (the default, several times faster) or pip (follows every setting of pip's configuration)
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$1
shift
python=$environment/bin/python
installer=${INSTALLER:-uv}
export PIP_DISABLE_PIP_VERSION_CHECK=1

pip_setting() { "$python" -m pip config get "global.$1" 2>/dev/null || true; }

if [[ ! -x $python ]]; then
    if ! "${PYTHON:-python3}" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; then
        echo "error: Python 3.11 or 3.12 is needed, got $("${PYTHON:-python3}" --version)." >&2
        echo "       Name another interpreter: make ... PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    "${PYTHON:-python3}" -m venv --without-pip "$environment"
fi
pins() { grep -oE '^[a-z0-9-]+==[^ ;]+' requirements/bootstrap.txt; }
if [[ $(pins) != $("$python" -m pip freeze --all 2>/dev/null | grep -xF -f <(pins)) ]]; then
    "${PYTHON:-python3}" -m pip --python "$python" install --quiet --no-deps --no-compile \
        --require-hashes --requirement requirements/bootstrap.txt
fi

case $installer in
uv)
    # uv does not read pip's configuration: hand over a mirror and a certificate bundle that are set there.
    index=${PIP_INDEX_URL:-$(pip_setting index-url)}
    certificates=${PIP_CERT:-$(pip_setting cert)}
    [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [[ -z $certificates ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
    install=("$environment/bin/uv" pip install --python "$python" --no-build-isolation --no-deps)
    ;;
pip)
    install=("$python" -m pip install --no-compile --no-build-isolation --no-deps)
    ;;
*)
    echo "error: INSTALLER must be uv or pip, got $installer" >&2
    exit 1
    ;;
esac

locks=()
for lock in "$@"; do locks+=(--requirement "$lock"); done
"${install[@]}" --require-hashes "${locks[@]}"
"${install[@]}" --quiet --editable .
