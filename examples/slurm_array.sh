#!/bin/bash
# Run the cells of a batch as a Slurm job array: one cell per task, each resumable.
#
#     relid-sumo batch experiments/smoke.toml --out b --prepare     # once, where the maps are
#     sbatch --array=0-3 examples/slurm_array.sh b                  # as many tasks as `relid-sumo batch status b` has cells
#     relid-sumo report b --out report.html
#
# A task that is killed continues from its last checkpoint when it is submitted again. Finished cells do nothing.
#SBATCH --job-name=relid-sumo
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
folder=${1:?usage: sbatch --array=0-N examples/slurm_array.sh FOLDER}
exec relid-sumo batch cell "$folder" "$SLURM_ARRAY_TASK_ID" --workers "${SLURM_CPUS_PER_TASK:-1}" --log-json
