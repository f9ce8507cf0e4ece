#!/usr/bin/env bash
# Purpose: the image's libraries, each with its version and the hashes of its files.
# Command: bash pipelines/container_lock.sh [FOLDER WITH PYTORCH'S CPU WHEEL]
#          (without one, the wheel's hash is asked of PyTorch's own index)
# Result:  pipelines/container_lock_{tools,cpu,cuda}.txt, from pyproject.toml and constraints.txt;
#          10 s. Run it again whenever one of the two changes: tests/test_container.py compares.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

wheels="${1:-}"
[ -z "$wheels" ] || [ -d "$wheels" ] || stop "no such folder: $wheels"
set_up container
cd -- "$REPO_ROOT"

# What people set for themselves shall not come into the locks.
unset UV_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_TORCH_BACKEND

# The image's Python and the oldest glibc that PyTorch's wheels ask for.
lock() {
    local name="$1"
    shift
    say "pipelines/container_lock_$name.txt"
    "$VENV/bin/uv" pip compile --quiet --system-certs --generate-hashes --upgrade --no-annotate \
        --no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --only-binary :all: --no-binary docopt --constraints constraints.txt \
        --custom-compile-command "bash pipelines/container_lock.sh" \
        --output-file "pipelines/container_lock_$name.txt" "$@"
}

# setuptools builds docopt, which has no wheel.
printf '%s\n' cyclonedx-bom hatchling pip-licenses setuptools uv | lock tools -
# What whole commands and inputs ask for: whoever has an image cannot add it. Not parquet, whose
# 69 MB are more than the image's limit leaves; tables of shards are joined outside of it.
extras=(--extra bids --extra dicom --extra maps)
if [ -n "$wheels" ]; then
    lock cpu "${extras[@]}" --find-links "$wheels" pyproject.toml
else
    lock cpu "${extras[@]}" --torch-backend cpu pyproject.toml
fi
lock cuda "${extras[@]}" pyproject.toml
