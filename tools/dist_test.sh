#!/usr/bin/env bash
# bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]; without a GPU the processes share the CPU through gloo.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
