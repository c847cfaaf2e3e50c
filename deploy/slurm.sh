#!/bin/sh
# A study on several nodes of one kind: the first task of the array begins it, the others join it.
#   export AUTOTUNE_STORAGE=postgresql://tuner:...@host/autotune     # from a file of yours, say
#   sbatch --constraint=KIND deploy/slurm.sh train.py [ARGUMENTS...]
# Each has a node to itself, with all CPUs and all memory. A task that is ended by its time limit or
# put back into the queue loses a trial at most: submit it again, and the study goes on.
#SBATCH --job-name=autotune
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=02:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=autotune-%A-%a.log
set -eu

script=${1:?which script? sbatch deploy/slurm.sh train.py}
shift
: "${AUTOTUNE_STORAGE:?where the study is to be: postgresql://...}"
study=${STUDY:-$(basename "$script" .py)}

# a study that has something in it goes on from any node; autotune run would begin another one there
if [ "${SLURM_ARRAY_TASK_ID:-0}" = 0 ] && ! autotune show "$study" >/dev/null 2>&1; then
  exec autotune run --model "$script" --study "$study" -- "$@"
fi
exec autotune worker --model "$script" --study "$study" --wait-for-study 30m -- "$@"
