#!/usr/bin/env bash
# Purpose: build the image without a Docker daemon and hold it to what it promises.
# Command: bash pipelines/container_check.sh [--if-possible]
#          TORCH_WHEELS=FOLDER takes PyTorch's CPU wheel from there (by default PIP_FIND_LINKS, if it
#          has one); BASE=IMAGE takes another base than one made here of Debian's packages;
#          --if-possible says so and ends well where the system is none that could build images:
#          no root, nothing to build with, no way to the packages, too small a disk
# Needs:   Debian 12 as root, or podman, runc and mmdebstrap in place; 10 GB of disk
# Result:  build/container/: base, image, SBOM, licences, both predictions. Exit code 0 where the image
#          is small enough, runs locked down under any user number and gives the ages of this
#          machine's pip install.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

WORK="$REPO_ROOT/build/container"
IMAGE=localhost/ermoe_ba:check
# What a laptop's user will wait for; PyTorch's CPU build alone takes half of it.
MAX_BYTES=1600000000
# The environment, the base, both images and what podman writes before it stores take less than half.
FREE_GB=10
# A prediction takes 25 s of a free core and has taken four minutes of a machine with eleven others at
# work. A container that hangs is a fault, and ends.
RUN_SECONDS=600
# A user number that no machine has an entry for: whatever works for it works for any.
ANY_USER=54321:54321

missing_tools() {
    local tool
    for tool in podman runc mmdebstrap; do
        command -v "$tool" >/dev/null || printf '%s ' "$tool"
    done
}

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

install_tools() {
    local missing
    missing="$(missing_tools)"
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || stop "install $missing first."
    say "installing $missing"
    apt-get -qq update
    # shellcheck disable=SC2086  # several names
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing
}

# They lie in an index of their own.
torch_reached() {
    [ -n "${TORCH_WHEELS:-}" ] || printf 'torch' | "$VENV/bin/uv" pip compile --quiet --no-config \
        --no-cache --system-certs --no-deps --torch-backend cpu - >/dev/null 2>&1
}

# Apart from the user's own images. runc and cgroupfs: crun fails where both versions of control
# groups are mounted, and systemd is not there in a container or a small virtual machine.
configure() {
    mkdir -p "$WORK"
    cat >"$WORK/containers.conf" <<CONF
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
CONF
    export CONTAINERS_CONF="$WORK/containers.conf"
}

# A wheel that pip is pointed to need not be fetched for the image either.
find_wheels() {
    if [ -z "${TORCH_WHEELS:-}" ] && compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu*.whl" >/dev/null; then
        TORCH_WHEELS="$PIP_FIND_LINKS"
    fi
}

engine() { podman --root "$WORK/storage" --runroot "$WORK/run" "$@"; }

# The official image cannot be had everywhere; Debian's packages can.
import_base() {
    BASE=localhost/python:3.11-slim
    engine image exists "$BASE" && return
    if [ ! -f "$WORK/base.tar" ]; then
        say "making the base of Debian's packages"
        # As slim images have it: without what nobody reads in one, and without waiting for the
        # disk at each file of a folder that a broken build leaves to nobody.
        mmdebstrap --quiet --format=tar --variant=minbase \
            --include=python3,python3-venv,ca-certificates \
            --dpkgopt=force-unsafe-io \
            --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            bookworm "$WORK/base.tar.partial"
        mv "$WORK/base.tar.partial" "$WORK/base.tar"
    fi
    engine import "$WORK/base.tar" "$BASE" >/dev/null
}

# build TAG CONTEXT: chroot and the host's network ask least of a machine.
build() {
    local tag="$1" context="$2" certificates="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"
    engine build --quiet --format docker --isolation chroot --network host --pull=never \
        --build-arg "BASE=$BASE" \
        --build-arg "VERSION=$("$VENV/bin/ermoe-ba" --version | cut -d' ' -f2)" \
        --build-arg "REVISION=$(git -C "$REPO_ROOT" rev-parse HEAD 2>/dev/null || echo unknown)" \
        -v "$certificates:/etc/ssl/certs/ca-certificates.crt:ro" \
        ${TORCH_WHEELS:+--build-arg TORCH_WHEELS=/torch_wheels -v "$TORCH_WHEELS:/torch_wheels:ro"} \
        -t "$tag" "$context"
}

# As locked down as a cluster's administrator may wish. Health checks of podman are timers of systemd,
# which may not be there.
locked_down() {
    engine run --rm --no-healthcheck --timeout "$RUN_SECONDS" --network none --read-only \
        --tmpfs /tmp --cap-drop=all --security-opt no-new-privileges --user "$ANY_USER" "$@"
}

# run OUT ARGUMENTS...: threads and kernels decide about last digits; where this machine's user set
# them, they are set inside as well.
run() {
    local out="$1"
    shift
    locked_down --env OMP_NUM_THREADS --env OPENBLAS_CORETYPE \
        -v "$REPO_ROOT/ermoe_ba/sample:/input:ro" -v "$out:/output" "$IMAGE" "$@"
}

# What the extras bring is there for their commands, whatever was cut from the libraries.
check_extras() {
    locked_down --entrypoint python "$IMAGE" \
        -c 'import bids, dicom2nifti, nilearn.datasets, nilearn.mass_univariate, pydicom' \
        || stop "a library of an extra cannot be loaded in the image."
}

layers() { engine image inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' "$1"; }

# A line more in the source must leave base and libraries in place: all layers of the image but its last.
check_layers() {
    local copy before after
    copy="$(mktemp -d)"
    cp -R "$REPO_ROOT"/{Dockerfile,.dockerignore,atlases,ermoe_ba,LICENSE,NOTICE,README.md,pyproject.toml} \
        "$copy"
    mkdir "$copy/pipelines"
    cp "$REPO_ROOT"/pipelines/container_lock_*.txt "$copy/pipelines"
    printf '%s\n' '# another line' >>"$copy/ermoe_ba/__init__.py"
    build "$IMAGE-changed" "$copy" >/dev/null
    rm -rf -- "$copy"
    before="$(layers "$IMAGE")"
    after="$(layers "$IMAGE-changed")"
    [ "${before%$'\n'*}" = "${after%$'\n'*}" ] \
        || stop "a change of the source rebuilt the layers of the libraries."
    [ "$before" != "$after" ] || stop "a change of the source did not reach the image."
    engine rmi "$IMAGE-changed" >/dev/null
}

# leave_if WHY: nothing, where there is no reason.
leave_if() {
    [ -z "$1" ] && return
    say "no image is built here: $1"
    exit 0
}

if_possible="${1:-}"
case "$if_possible" in
    "") ;;
    --if-possible)
        why="$(hindrance)"
        leave_if "$why"
        ;;
    *) stop "usage: bash pipelines/container_check.sh [--if-possible]; found $1" ;;
esac
install_tools
configure
find_wheels
set_up container
[ -z "$if_possible" ] || torch_reached || leave_if "PyTorch's CPU builds cannot be reached"
say "hadolint, shellcheck"
"$VENV/bin/hadolint" "$REPO_ROOT/Dockerfile"
"$VENV/bin/shellcheck" -x "$REPO_ROOT"/pipelines/*.sh "$REPO_ROOT/.ci/run"
if [ -z "${BASE:-}" ]; then
    import_base
else
    engine image exists "$BASE" || engine pull --quiet "$BASE"
fi

say "building"
build "$IMAGE" "$REPO_ROOT" >/dev/null
size="$(engine image inspect --format '{{.Size}}' "$IMAGE")"
say "size: $((size / 1000000)) MB, at most $((MAX_BYTES / 1000000))"
[ "$size" -le "$MAX_BYTES" ] || stop "the image is larger than that."
engine image inspect --format '{{json .HealthCheck}}' "$IMAGE" | grep ermoe-ba >/dev/null \
    || stop "the image has no health check."
say "changing a line of the source"
check_layers

say "predicting in the image, then with the pip install"
rm -rf -- "$WORK/in_image" "$WORK/pip_install"
mkdir -p "$WORK/in_image"
chown "$ANY_USER" "$WORK/in_image"
run "$WORK/in_image" predict /input --out /output
run "$WORK/in_image" info --json >"$WORK/info.json"
check_extras
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
    locked_down --entrypoint cat "$IMAGE" "/opt/ermoe_ba/share/ermoe_ba/$list" >"$WORK/$list"
done
say "software and licences: $WORK/sbom.cdx.json, $WORK/licences.md"
