#!/bin/bash
#SBATCH --job-name=negserve
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
# Train on the nodes of a SLURM job: a replica of negserve on each node, trainers beside them.
#   sbatch examples/train_slurm.sh --model complex --checkpoint /shared/run.pt
# Arguments are those of train_ddp.py; what the servers serve is said by NEGSERVE_SERVE_... variables.
# The servers end with the job. Their network has to be yours alone: they listen in plain text.
set -euo pipefail

port=${SERVER_PORT:-7733}
example=${EXAMPLE:-examples/train_ddp.py} # of the folder from which the job was submitted
start_seconds=${START_SECONDS:-600}       # loading and compiling

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
targets=("${nodes[@]/%/:$port}")

# Its tasks take no place from the trainers; if one is lost, the others stay.
srun --overlap --ntasks-per-node=1 --ntasks="${#nodes[@]}" --kill-on-bad-exit=0 bash -c \
  'exec negserve-server serve --insecure --listen "$SLURMD_NODENAME:$1"' server "$port" &
servers=$!
trap 'kill "$servers" 2>/dev/null || true; wait "$servers" || true' EXIT

for target in "${targets[@]}"; do
  until python -m negserve_server.health_check "$target" >/dev/null 2>&1; do
    kill -0 "$servers" || exit 1
    if ((SECONDS > start_seconds)); then
      echo "$target does not answer after $SECONDS s: raise START_SECONDS (now $start_seconds)" >&2
      exit 1
    fi
    sleep 1
  done
done
echo "${#targets[@]} replicas: ${targets[*]}"

# Each reads from the replica of its node while that answers, and else from another one.
export MASTER_ADDR=${nodes[0]} MASTER_PORT=${MASTER_PORT:-29500} EXAMPLE=$example SERVER_PORT=$port
srun --overlap --kill-on-bad-exit=1 bash -c \
  'export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
  exec python "$EXAMPLE" --no-spread --target "$SLURMD_NODENAME:$SERVER_PORT" "$@"' \
  trainer "${targets[@]}" "$@"
