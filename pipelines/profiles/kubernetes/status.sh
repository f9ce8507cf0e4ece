#!/bin/sh
# Purpose: how a job of submit.sh stands; called by snakemake.
# Command: status.sh NAME
# Result:  running, success or failed.
set -eu

# Of a job that somebody deleted there is nothing, and no error. A server that does not answer for once
# is no news of the job.
if ! ended="$(kubectl get job "$1" --ignore-not-found \
    -o 'jsonpath=job {range .status.conditions[?(@.status=="True")]}{.type} {end}')"; then
    echo running
    exit
fi
case " $ended " in
    *" Complete "*) echo success ;;
    *" Failed "* | "  ") echo failed ;;
    *) echo running ;;
esac
