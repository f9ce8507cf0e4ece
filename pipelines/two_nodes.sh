#!/usr/bin/env bash
# Purpose: training on two simulated nodes: two launchers with a rendezvous, one process each.
# Command: bash pipelines/two_nodes.sh PORT PROGRAM.py [ARGUMENTS]
#          for instance: bash pipelines/two_nodes.sh 29500 tests/training_runs.py exact OUT
#          PYTHON names another interpreter than python3; PORT must be free.
# Needs:   an environment with ermoe_ba. As root, where the system allows it, each node gets a network
#          of its own, joined by a virtual cable; else both talk over the loopback.
# Result:  exit code 0 if both nodes ended well; else that of the first that did not.
set -euo pipefail

[ "$#" -ge 2 ] || { printf '%s\n' "usage: $0 PORT PROGRAM.py [ARGUMENTS]" >&2; exit 2; }
port="$1"
shift
python="${PYTHON:-python3}"
meet=127.0.0.1
# Of this process alone: two calls may run side by side.
first="ermoe0-$$" second="ermoe1-$$"
in_first=() in_second=() nodes=()

leave() {
    # Whoever waits for the other would wait for long.
    [ "${#nodes[@]}" -eq 0 ] || kill "${nodes[@]}" 2>/dev/null || true
    if [ "${#in_first[@]}" -gt 0 ]; then
        ip netns delete "$first" || true
        ip netns delete "$second" || true
    fi
}
trap leave EXIT

make_networks() {
    ip netns add "$first" || return 1
    if ! ip netns add "$second" \
        || ! ip -n "$first" link add cable type veth peer name cable netns "$second" \
        || ! ip -n "$first" address add 10.213.0.1/24 dev cable \
        || ! ip -n "$second" address add 10.213.0.2/24 dev cable; then
        ip netns delete "$first" || true
        ip netns delete "$second" || true
        return 1
    fi
    local network
    for network in "$first" "$second"; do
        ip -n "$network" link set lo up
        ip -n "$network" link set cable up
    done
}

if [ "$(id -u)" -eq 0 ] && command -v ip >/dev/null && make_networks 2>/dev/null; then
    in_first=(ip netns exec "$first" env GLOO_SOCKET_IFNAME=cable)
    in_second=(ip netns exec "$second" env GLOO_SOCKET_IFNAME=cable)
    meet=10.213.0.1
    printf '%s\n' "== two nodes, each in a network of its own" >&2
else
    printf '%s\n' "== two nodes on the loopback (no networks of their own here)" >&2
fi

node() {
    local rank="$1"
    shift
    "$@" "$python" -m torch.distributed.run --nnodes 2 --node-rank "$rank" --nproc-per-node 1 \
        --master-addr "$meet" --master-port "$port" "${program[@]}"
}

program=("$@")
node 0 ${in_first[@]+"${in_first[@]}"} &
nodes+=("$!")
node 1 ${in_second[@]+"${in_second[@]}"} &
nodes+=("$!")
wait "${nodes[0]}"
wait "${nodes[1]}"
nodes=()
