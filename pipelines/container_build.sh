#!/usr/bin/env bash
# Purpose: the image, built without a Docker daemon, and built again after a change of the source.
# Command: bash pipelines/container_build.sh
#          TORCH_WHEELS=FOLDER takes PyTorch's CPU wheel from there (by default PIP_FIND_LINKS, if it
#          has one); BASE=IMAGE takes another base than one made here of Debian's packages
# Needs:   Debian 12 as root, or podman, runc and mmdebstrap in place; 10 GB of disk
# Result:  build/container/: base and image (podman --root build/container/storage). Exit code 0 where
#          its recipe is clean and a change of the source leaves the layers of the libraries in place.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_container.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_container.sh"

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

# A wheel that pip is pointed to need not be fetched for the image either.
find_wheels() {
    if [ -z "${TORCH_WHEELS:-}" ] && compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-*+cpu*.whl" >/dev/null; then
        TORCH_WHEELS="$PIP_FIND_LINKS"
    fi
}

# The official image cannot be had everywhere; Debian's packages can.
import_base() {
    BASE=localhost/python:3.11-slim
    "${ENGINE[@]}" image exists "$BASE" && return
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
    "${ENGINE[@]}" import "$WORK/base.tar" "$BASE" >/dev/null
}

# build TAG CONTEXT: chroot and the host's network ask least of a machine.
build() {
    local tag="$1" context="$2" certificates="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"
    "${ENGINE[@]}" build --quiet --format docker --isolation chroot --network host --pull=never \
        --build-arg "BASE=$BASE" \
        --build-arg "VERSION=$("$VENV/bin/ermoe-ba" --version | cut -d' ' -f2)" \
        --build-arg "REVISION=$(git -C "$REPO_ROOT" rev-parse HEAD 2>/dev/null || echo unknown)" \
        -v "$certificates:/etc/ssl/certs/ca-certificates.crt:ro" \
        ${TORCH_WHEELS:+--build-arg TORCH_WHEELS=/torch_wheels -v "$TORCH_WHEELS:/torch_wheels:ro"} \
        -t "$tag" "$context"
}

layers() { "${ENGINE[@]}" image inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' "$1"; }

# A line more in the source must leave base and libraries in place: all layers of the image but its last.
check_layers() {
    local copy before after
    copy="$(mktemp -d)"
    cp -R "$REPO_ROOT"/{Dockerfile,.dockerignore,atlases,ermoe_ba,LICENSE,NOTICE,README.md,pyproject.toml} \
        "$copy"
    mkdir "$copy/pipelines"
    cp "$REPO_ROOT"/pipelines/{container_lock_*.txt,ixi_hh.toml,site.toml} "$copy/pipelines"
    printf '%s\n' '# another line' >>"$copy/ermoe_ba/__init__.py"
    build "$IMAGE-changed" "$copy" >/dev/null
    rm -rf -- "$copy"
    before="$(layers "$IMAGE")"
    after="$(layers "$IMAGE-changed")"
    [ "${before%$'\n'*}" = "${after%$'\n'*}" ] \
        || stop "a change of the source rebuilt the layers of the libraries."
    [ "$before" != "$after" ] || stop "a change of the source did not reach the image."
    "${ENGINE[@]}" rmi "$IMAGE-changed" >/dev/null
}

install_tools
configure
find_wheels
set_up container
say "hadolint, shellcheck"
"$VENV/bin/hadolint" "$REPO_ROOT/Dockerfile"
"$VENV/bin/shellcheck" -x "$REPO_ROOT"/pipelines/*.sh "$REPO_ROOT"/pipelines/profiles/*/*.sh \
    "$REPO_ROOT/.ci/run"
if [ -z "${BASE:-}" ]; then
    import_base
else
    "${ENGINE[@]}" image exists "$BASE" || "${ENGINE[@]}" pull --quiet "$BASE"
fi
say "building"
build "$IMAGE" "$REPO_ROOT" >/dev/null
say "changing a line of the source"
check_layers
