#!/bin/sh
# Purpose: end jobs of submit.sh; called by snakemake, which allows two seconds for it.
# Command: cancel.sh NAME...
set -eu

kubectl delete job --ignore-not-found --wait=false "$@"
