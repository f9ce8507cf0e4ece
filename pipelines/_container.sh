# shellcheck shell=bash disable=SC2034  # those that source it use its names
# Sourced by container_build.sh and container_check.sh: where the image lies, and what runs it.

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

WORK="$REPO_ROOT/build/container"
IMAGE=localhost/ermoe_ba:check
# Apart from the user's own images. A list, not a function, so that `timeout` can begin it.
ENGINE=(podman --root "$WORK/storage" --runroot "$WORK/run")

missing_tools() {
    local tool
    for tool in podman runc mmdebstrap; do
        command -v "$tool" >/dev/null || printf '%s ' "$tool"
    done
}

# runc and cgroupfs: crun fails where both versions of control groups are mounted, and systemd is not
# there in a container or a small virtual machine.
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
