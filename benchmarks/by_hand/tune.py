"""The script that everybody writes: Optuna, a fresh process for each trial, five seconds each."""

import os
import subprocess
import sys

import optuna


def objective(trial: optuna.Trial) -> float:
    """Return samples per second."""
    cpus = os.cpu_count() or 1
    settings = {
        "TF_NUM_INTRAOP_THREADS": trial.suggest_int("intra_op", 1, cpus),
        "TF_NUM_INTEROP_THREADS": trial.suggest_int("inter_op", 1, cpus),
        "TF_ENABLE_ONEDNN_OPTS": trial.suggest_categorical("onednn", ["0", "1"]),
        "MAP_CALLS": trial.suggest_categorical("map_calls", ["0", "2", "4", "8", "-1"]),
        "PREFETCH": trial.suggest_categorical("prefetch", ["0", "1", "2", "4", "8", "-1"]),
    }
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    command = [sys.executable, "model.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


study = optuna.create_study(direction="maximize")
study.optimize(objective, timeout=float(sys.argv[1]), catch=(Exception,))
print(study.best_params)
