#!/usr/bin/env bash
# Purpose: hold the image to what it promises, from nothing.
# Command: bash pipelines/container_check.sh [--if-possible [SECONDS]]
#          --if-possible says so and ends well where the system is none that could build images (no
#          root, nothing to build with, no way to the packages, too small a disk), or has not built
#          the image SECONDS after the start. What the image does once it is there has limits of its
#          own, and passing them is a fault. TORCH_WHEELS, BASE: see container_build.sh
# Needs:   as container_build.sh, which it calls
# Result:  build/container/: base, image, SBOM, licences, both predictions. Exit code 0 where the image
#          is small enough, runs locked down under any user number and gives the ages of this
#          machine's pip install.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_container.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_container.sh"

# What a laptop's user will wait for; PyTorch's CPU build alone takes half of it.
MAX_BYTES=1600000000
# The environment, the base, both images and what podman writes before it stores take less than half.
FREE_GB=10
# A prediction takes 25 s of a free core and has taken six minutes of a machine with seven others ahead of
# it. What takes longer hangs, which is a fault.
RUN_SECONDS=900
# A user number that no machine has an entry for: whatever works for it works for any.
ANY_USER=54321:54321
# Room for home and caches: what Apptainer gives with --containall ("sessiondir max size", MB).
TMP_MB=64

# Tells why this system cannot build images, or nothing. Asked before anything is built: what fails
# after this is a fault, and shall be seen as one.
hindrance() {
    if [ "$(id -u)" -ne 0 ]; then
        printf '%s' "not root"
    elif ! command -v apt-get >/dev/null && [ -n "$(missing_tools)" ]; then
        printf '%s' "no apt-get that could install $(missing_tools)"
    elif [ "$(df -Pk "$REPO_ROOT" | awk 'NR == 2 {print $4}')" -lt "$((FREE_GB * 1000000))" ]; then
        printf '%s' "less than $FREE_GB GB of disk free"
    elif command -v apt-get >/dev/null && ! apt-get -qq --error-on=any update >/dev/null 2>&1; then
        printf '%s' "Debian's packages cannot be reached"
    elif ! python_packages_reached; then
        printf '%s' "Python's packages cannot be reached"
    fi
}

# As a build would fetch them: without what is configured on this machine, which an image does not see.
python_packages_reached() {
    local folder code=0
    folder="$(mktemp -d)"
    venv_is_sound || make_venv >/dev/null
    PIP_CONFIG_FILE=/dev/null "$VENV_PYTHON" -m pip --isolated download --no-deps --no-cache-dir \
        --retries 1 --timeout 20 --dest "$folder" hatchling >/dev/null 2>&1 || code=1
    rm -rf -- "$folder"
    return "$code"
}

# They lie in an index of their own. No pipe: where nobody reads it to its end, that would be a failure.
torch_reached() {
    [ -n "${TORCH_WHEELS:-}" ] || compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu*.whl" >/dev/null \
        || "$VENV/bin/uv" pip compile --quiet --no-config --no-cache --system-certs --no-deps \
            --torch-backend cpu - <<<torch >/dev/null 2>&1
}

# leave_if WHY: nothing, where there is no reason.
leave_if() {
    [ -z "$1" ] && return
    say "no image is built here: $1"
    exit 0
}

# build_within SECONDS SINCE THE START: a machine that is too slow for that is no fault.
build_within() {
    local left="$(($1 - SECONDS))" code=0
    [ "$left" -gt 0 ] || leave_if "the $1 s for it had gone before it was begun"
    # Whatever fails fails with 1, so that 124 and 137 are those of timeout and mean that time is up.
    # shellcheck disable=SC2016  # the inner shell reads its own argument
    timeout --kill-after=15 "$left" \
        bash -c 'bash "$1" || exit 1' build "$REPO_ROOT/pipelines/container_build.sh" || code=$?
    case "$code" in
        0) ;;
        124 | 137)
            say "the image is not checked: it was not built $1 s after the start"
            exit 0
            ;;
        *) exit "$code" ;;
    esac
}

# in_time WHAT COMMAND...: time is counted for this command alone, so that what hangs is not taken for
# what came late.
in_time() {
    local what="$1" code=0
    shift
    # podman ends a container that is late by itself (below), with 255; a minute on, podman hangs.
    timeout --kill-after=15 "$((RUN_SECONDS + 60))" "$@" || code=$?
    case "$code" in
        0) ;;
        124 | 137 | 255)
            stop "$what: must end within $RUN_SECONDS s; it hung and was ended, or was killed ($code)."
            ;;
        *) stop "$what: must end well; found exit code $code." ;;
    esac
}

# locked_down WHAT ARGUMENTS...: as a cluster's administrator may wish. Health checks of podman are
# timers of systemd, which may not be there.
locked_down() {
    local what="$1"
    shift
    in_time "$what" "${ENGINE[@]}" run --rm --no-healthcheck --timeout "$RUN_SECONDS" --network none \
        --read-only --tmpfs "/tmp:size=${TMP_MB}m" --cap-drop=all --security-opt no-new-privileges \
        --user "$ANY_USER" "$@"
}

if_possible="${1:-}" seconds="${2:-}"
case "$if_possible" in
    "") ;;
    --if-possible)
        [[ "$seconds" =~ ^[0-9]*$ ]] || stop "--if-possible: must be followed by seconds; found $seconds."
        why="$(hindrance)"
        leave_if "$why"
        ;;
    *) stop "usage: bash pipelines/container_check.sh [--if-possible [SECONDS]]; found $1" ;;
esac
set_up container
[ -z "$if_possible" ] || torch_reached || leave_if "PyTorch's CPU builds cannot be reached"
if [ -n "$seconds" ]; then
    build_within "$seconds"
else
    bash "$REPO_ROOT/pipelines/container_build.sh"
fi
configure

size="$("${ENGINE[@]}" image inspect --format '{{.Size}}' "$IMAGE")"
say "size: $((size / 1000000)) MB, at most $((MAX_BYTES / 1000000))"
[ "$size" -le "$MAX_BYTES" ] || stop "the image is larger than that."
"${ENGINE[@]}" image inspect --format '{{json .HealthCheck}}' "$IMAGE" | grep ermoe-ba >/dev/null \
    || stop "the image has no health check."

say "predicting in the image, then with the pip install"
rm -rf -- "$WORK/in_image" "$WORK/pip_install"
mkdir -p "$WORK/in_image"
chown "$ANY_USER" "$WORK/in_image"
# Threads and kernels decide about last digits; where this machine's user set them, they are set inside
# as well.
locked_down "predict in the image" --env OMP_NUM_THREADS --env OPENBLAS_CORETYPE \
    -v "$REPO_ROOT/ermoe_ba/sample:/input:ro" -v "$WORK/in_image:/output" "$IMAGE" \
    predict /input --out /output
# What the health check asks.
locked_down "info in the image" "$IMAGE" info --json >"$WORK/info.json"
# What the extras bring is there for their commands, whatever was cut from the libraries.
locked_down "the libraries of the extras in the image" --entrypoint python "$IMAGE" \
    -c 'import bids, dicom2nifti, nilearn.datasets, nilearn.mass_univariate, pydicom'
in_time "predict with the pip install" \
    "$VENV/bin/ermoe-ba" predict "$REPO_ROOT/ermoe_ba/sample" --out "$WORK/pip_install"
"$VENV_PYTHON" - "$WORK/in_image" "$WORK/pip_install" <<'PYTHON'
import csv, pathlib, sys

rows = []
for folder in map(pathlib.Path, sys.argv[1:]):
    with (folder / "predictions.tsv").open(encoding="utf-8") as table:
        # Where the scan lies and how long it took may differ, nothing else.
        rows.append([{k: v for k, v in row.items() if k not in ("input", "seconds")}
                     for row in csv.DictReader(table, delimiter="\t")])
image, pip = rows
if image != pip or not image or any(row["status"] != "ok" for row in image):
    sys.exit(f"error: the image and the pip install must agree; found\n{image}\n{pip}")
print(*(f"== both: {row['participant_id']} {row['predicted_age']} years" for row in image), sep="\n")
missing = {p.name for p in pathlib.Path(sys.argv[2]).iterdir()} ^ {
    p.name for p in pathlib.Path(sys.argv[1]).iterdir()}
if missing:
    sys.exit(f"error: files that only one of the two wrote: {sorted(missing)}")
PYTHON

for list in sbom.cdx.json licences.md; do
    locked_down "$list in the image" --entrypoint cat "$IMAGE" "/opt/ermoe_ba/share/ermoe_ba/$list" >"$WORK/$list"
done
say "software and licences: $WORK/sbom.cdx.json, $WORK/licences.md"
