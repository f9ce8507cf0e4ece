#!/usr/bin/env bash
# Purpose: pipelines/Snakefile under its three profiles, without a cluster.
# Command: bash pipelines/workflow_check.sh
# Needs:   Linux; network the first time (snakemake and its plugins)
# Result:  build/workflow/. Exit code 0 where five scans in three shards become one table, in order: on
#          this machine, and under the profiles slurm and kubernetes, whose commands are stand-ins that
#          run what they are given, each job asking for the memory and time that its rule names; after
#          a failed shard too. The schema of Kubernetes accepts each Job. A real cluster is not seen.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=_setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

WORK="$REPO_ROOT/build/workflow"
PROFILES="$REPO_ROOT/pipelines/profiles"

# An environment of its own, because snakemake holds back libraries that others here need newer. What
# the package itself needs is taken from its environment: a second PyTorch would show nothing more.
install_snakemake() {
    local packages
    [ -e "$WORK/venv/bin/snakemake" ] && return
    say "installing snakemake"
    mkdir -p "$WORK"
    "$VENV_PYTHON" -m venv "$WORK/venv"
    "$WORK/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check \
        "$(sed -n 's/^workflow = .*"\(snakemake[^"]*\)".*/\1/p' "$REPO_ROOT/pyproject.toml")" \
        snakemake-executor-plugin-slurm snakemake-executor-plugin-cluster-generic kubernetes-validate
    packages="$("$WORK/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    printf '%s\n' "$REPO_ROOT" "$("$VENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
        >"$packages/ermoe_ba.pth"
}

# A program in place of ermoe-ba: a row a scan, at once. It fails where a file `broken` says so.
write_program() {
    local columns
    columns="$("$VENV_PYTHON" -c 'from ermoe_ba.tables import PREDICTION_COLUMNS; print(*PREDICTION_COLUMNS)')"
    cat >"$WORK/program" <<PROGRAM
#!/bin/sh
# predict SCANS.tsv --out FOLDER --resume
[ "\$1 \$3 \$5" = "predict --out --resume" ] && [ "\$OMP_NUM_THREADS" = 1 ] || exit 2
case "\$4" in *00001) [ ! -e '$WORK/broken' ] || exit 3 ;; esac
awk -v columns='$columns' -v OFS='\t' '
    BEGIN { n = split(columns, name, " "); for (i = 1; i <= n; i++) at[name[i]] = i }
    {
        scan = \$1
        for (i = 1; i <= n; i++) \$i = FNR == 1 ? name[i] : "n/a"
        if (FNR > 1) { \$at["input"] = scan; \$at["status"] = "ok" }
        print
    }' FS='\t' "\$2" >"\$4/predictions.tsv"
PROGRAM
    chmod +x "$WORK/program"
}

# Stand-ins for SLURM: a job is run at once, and what it asked for written down.
write_slurm() {
    mkdir -p "$WORK/slurm"
    cat >"$WORK/slurm/sbatch" <<STAND_IN
#!/bin/bash
printf '%s\n' "\${*:1:\$#-1}" >>'$WORK/asked'
number="\$\$"
export SLURM_JOB_ID="\$number" SLURM_CPUS_PER_TASK=1 SLURM_NTASKS=1
if bash -c "\${!##--wrap=}" >'$WORK/job.log' 2>&1; then state=COMPLETED; else state=FAILED; fi
printf '%s|%s\n' "\$number" "\$state" >>'$WORK/states'
printf '%s\n' "\$number"
STAND_IN
    printf '%s\n' '#!/bin/sh' "cat '$WORK/states'" >"$WORK/slurm/sacct"
    # Options, then the command.
    cat >"$WORK/slurm/srun" <<'STAND_IN'
#!/bin/bash
while [ "${1#-}" != "$1" ]; do
    case "$1" in -n | -N | -c) shift ;; esac
    shift
done
exec "$@"
STAND_IN
    printf '%s\n' '#!/bin/sh' 'true' | tee "$WORK/slurm/"{sinfo,squeue,scontrol,scancel,sacctmgr,sshare} >/dev/null
    chmod +x "$WORK"/slurm/*
}

# A stand-in for a cluster of Kubernetes: a Job is run at once, kept, and told of as servers tell.
write_kubernetes() {
    mkdir -p "$WORK/kubernetes" "$WORK/jobs"
    cat >"$WORK/kubernetes/kubectl" <<STAND_IN
#!$WORK/venv/bin/python
import pathlib, subprocess, sys, yaml

jobs = pathlib.Path("$WORK/jobs")
match sys.argv[1:]:
    case ["create", "-f", "-", "-o", "jsonpath={.metadata.name}"]:
        text = sys.stdin.read()
        job = yaml.safe_load(text)
        name = job["metadata"]["generateName"] + str(len(list(jobs.glob("*.yaml"))))
        named = text.replace("generateName: ermoe-ba-", f"name: {name}")
        (jobs / f"{name}.yaml").write_text(named)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        with open("$WORK/job.log", "w") as log:
            code = subprocess.run(container["command"], stdout=log, stderr=log).returncode
        # The first condition is one that tells nothing yet.
        end = "SuccessCriteriaMet Complete" if code == 0 else "FailureTarget Failed"
        (jobs / f"{name}.conditions").write_text(end)
        print(name, end="")
    case ["get", "job", name, "--ignore-not-found", "-o", form] if form.startswith("jsonpath=job {"):
        print("job", (jobs / f"{name}.conditions").read_text(), end=" ")
    case _:
        sys.exit(f"kubectl: not understood: {sys.argv}")
STAND_IN
    chmod +x "$WORK/kubernetes/kubectl"
}

# flow PROFILE OUT OPTIONS...
flow() {
    local profile="$1" out="$2"
    shift 2
    (
        cd -- "$WORK"
        PATH="$WORK/slurm:$WORK/kubernetes:$PATH" "$WORK/venv/bin/snakemake" \
            -s "$REPO_ROOT/pipelines/Snakefile" --profile "$PROFILES/$profile" --quiet all "$@" \
            --config scans=scans.tsv "out=$out" shard_size=2 "program=$WORK/program" >"$WORK/$out.log" 2>&1
    )
}

# The joined table names the scans in their order.
check_table() {
    local found
    found="$(awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } { print $at["input"] }' \
        "$WORK/$1/predictions.tsv" | tr '\n' ' ')"
    [ "$found" = "/scans/5 /scans/3 /scans/1 /scans/2 /scans/4 " ] \
        || stop "$1: the table must hold the five scans in their order; found $found"
}

set_up
install_snakemake
rm -rf -- "$WORK"/{here,cluster,pods,asked,states,jobs,broken}
# The profile kubernetes names its commands as they lie in a checkout.
ln -sfn "$REPO_ROOT/pipelines" "$WORK/pipelines"
printf '%s\n' path /scans/5 /scans/3 /scans/1 /scans/2 /scans/4 >"$WORK/scans.tsv"
write_program
write_slurm
write_kubernetes

say "on this machine, one shard failing, then not"
touch "$WORK/broken"
! flow local here --retries 0 || stop "a shard that fails must fail the workflow."
[ ! -e "$WORK/here/predictions.tsv" ] || stop "no table must be joined without all of its shards."
before="$(stat -c %Y.%i "$WORK/here/shards/00000/predictions.tsv")"
rm "$WORK/broken"
flow local here || stop "the workflow must go on (see $WORK/here.log)."
[ "$before" = "$(stat -c %Y.%i "$WORK/here/shards/00000/predictions.tsv")" ] \
    || stop "a finished shard must not be begun again."
check_table here

say "under the profile slurm, with stand-ins"
flow slurm cluster --slurm-init-seconds-before-status-checks 1 --latency-wait 5 \
    --default-resources slurm_account=account slurm_partition=partition \
    || stop "the workflow must end well (see $WORK/cluster.log, $WORK/job.log)."
check_table cluster
# 300 s to start and 60 for each of two scans: 7 minutes.
[ "$(grep -c -e '-t 7 --mem 2500 .*--cpus-per-task=1 ' "$WORK/asked")" = 3 ] \
    || stop "three jobs must ask for 7 minutes, 2,500 MB and one core; found: $(cat "$WORK/asked")"

say "under the profile kubernetes, with a stand-in, one shard failing, then not"
export IMAGE=registry/ermoe_ba CLAIM=claim MOUNT="$WORK"
# Between looks at a job snakemake waits for ten seconds by default.
touch "$WORK/broken"
! flow kubernetes pods --seconds-between-status-checks 1 --latency-wait 5 \
    || stop "a job that fails must fail the workflow."
# Three shards, and the broken one once more, with twice the memory and time.
[ "$(cat "$WORK"/jobs/*.yaml | grep -c -e 'limits: {memory: 2500M}' -e 'activeDeadlineSeconds: 420')" = 6 ] \
    || stop "three jobs must ask for 2,500 MB and 420 s (see $WORK/jobs)."
[ "$(cat "$WORK"/jobs/*.yaml | grep -c -e 'limits: {memory: 5000M}' -e 'activeDeadlineSeconds: 840')" = 2 ] \
    || stop "a job that failed must ask for twice as much (see $WORK/jobs)."
rm "$WORK/broken"
flow kubernetes pods --seconds-between-status-checks 1 --latency-wait 5 \
    || stop "the workflow must go on (see $WORK/pods.log, $WORK/job.log)."
check_table pods
# Of the oldest version that knows how kubernetes_predict.yaml counts its failures, and the newest.
for version in 1.29.0 1.37.0; do
    "$WORK/venv/bin/kubernetes-validate" --strict --quiet -k "$version" \
        "$WORK"/jobs/*.yaml "$REPO_ROOT/pipelines/kubernetes_predict.yaml" \
        || stop "Kubernetes $version must accept each Job."
done
