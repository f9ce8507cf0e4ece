#!/bin/sh
# Purpose: one job of snakemake as a Kubernetes Job; called by snakemake (see config.yaml).
# Command: IMAGE=... CLAIM=... MOUNT=... submit.sh MEGABYTES MINUTES CORES SCRIPT
# Result:  the job's name.
set -eu

[ "$#" -eq 4 ] || { printf '%s\n' "usage: $0 MEGABYTES MINUTES CORES SCRIPT" >&2; exit 2; }
megabytes="$1" minutes="$2" cores="$3" script="$4"
: "${IMAGE:?must name the image of ermoe_ba, as nodes pull it}"
: "${CLAIM:?must name the claim of the volume that all share}"
: "${MOUNT:?must name the folder at which the volume is mounted, here and in the pods}"
case "$script" in
    "${MOUNT%/}"/*) ;;
    *)
        printf '%s\n' "$0: snakemake must be called in a folder below MOUNT=$MOUNT, the only one that" \
            "pods see; found $script" >&2
        exit 2
        ;;
esac

# JSON writes any path so that YAML reads it. A lost pod is begun anew by snakemake, which asks for more
# memory then. Whoever calls also owns what the pod writes. A day is long enough to look at its log.
quoted() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"; }
kubectl create -f - -o 'jsonpath={.metadata.name}' <<JOB
apiVersion: batch/v1
kind: Job
metadata:
  generateName: ermoe-ba-
spec:
  backoffLimit: 0
  activeDeadlineSeconds: $((minutes * 60))
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsUser: $(id -u), runAsGroup: $(id -g)}
      containers:
        - name: shard
          image: $(quoted "$IMAGE")
          command: [sh, $(quoted "$script")]
          resources:
            requests: {cpu: "$cores", memory: ${megabytes}M}
            limits: {memory: ${megabytes}M}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: data, mountPath: $(quoted "$MOUNT")}
            - {name: caches, mountPath: /tmp}
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: $(quoted "$CLAIM")}
        - name: caches
          emptyDir: {}
JOB
