#!/usr/bin/env bash
# bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS come from the environment.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
work_dir=$4
shift 4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-8}
here=$(cd "$(dirname "$0")" && pwd)
# SRUN_ARGS holds several words
# shellcheck disable=SC2086
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec srun --partition="$partition" --job-name="$job" --gres="gpu:$gpus_per_node" \
    --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir="$work_dir" --launcher=slurm "$@"
