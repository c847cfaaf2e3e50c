"""Scripts as users write them, of every kind, and the step that each is measured in."""

from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
KINDS = [
    ("fit_dataset.py", "keras fit"),
    ("fit_arrays.py", "keras fit"),
    ("predict_loop.py", "keras predict"),
    ("tape_loop.py", "dataset dataset@tape_loop.py:11"),
    ("function_loop.py", "function infer"),
    ("model_calls.py", "function model"),
    ("explicit_steps.py", "step"),
    ("worker_processes.py", "keras fit"),
    ("own_threads.py", "function infer"),
    ("garbage_output.py", "function "),
]
