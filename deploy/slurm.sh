#!/bin/sh
# A study on several nodes of one kind: the first task of the array begins it, the others join it.
#   AUTOTUNE_STORAGE=postgresql://tuner:...@host/autotune sbatch deploy/slurm.sh train.py [ARGUMENTS...]
#SBATCH --job-name=autotune
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --time=02:00:00
#SBATCH --output=autotune-%A-%a.log
set -eu

script=$1
shift
: "${AUTOTUNE_STORAGE:?where the study is to be: postgresql://...}"
study=${STUDY:-$(basename "$script" .py)}

if [ "${SLURM_ARRAY_TASK_ID:-0}" = 0 ]; then
  exec autotune run --model "$script" --study "$study" -- "$@"
fi
exec autotune worker --model "$script" --study "$study" --wait-for-study 30m -- "$@"
