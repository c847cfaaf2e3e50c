"""The commands and their options. Optuna is imported only by those that need it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="autotune",
    help="Find the fastest way to run a TensorFlow model on a CPU, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Optuna storage URL.  [default: .autotune/studies.db]",
        envvar="AUTOTUNE_STORAGE",
        show_envvar=False,
    ),
]


ModelOption = Annotated[
    Path | None,
    typer.Option(help="The Python script, its arguments after --; or a .keras file, a SavedModel."),
]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Batch size for a saved model.  [default: 32]")
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(help="Shape of an input of a saved model, as NAME=32,224,224,3; may be repeated."),
]
WorkloadOption = Annotated[
    str | None, typer.Option(help="A reference workload: see `autotune workloads`.")
]
PythonOption = Annotated[
    str | None, typer.Option(help="The interpreter that runs your script.  [default: this one]")
]
EffortOption = Annotated[
    str | None,
    typer.Option(help="fast, balanced or thorough: up to 8, 16, 30 pairs. [default: balanced]"),
]
PairsOption = Annotated[int | None, typer.Option(help="Most pairs.  [default: by effort]")]
PhaseOption = Annotated[
    str | None,
    typer.Option(help="Which phase: fit, evaluate, predict.  [default: as the file's study]"),
]
MarginOption = Annotated[
    float | None, typer.Option(help="What counts as no difference.  [default: 0.03]")
]
SequentialOption = Annotated[
    bool | None, typer.Option("--sequential", help="Never stop and continue the script (no duels).")
]
MeasureTimeOption = Annotated[
    str | None, typer.Option(help="Longest measurement of a trial.  [default: by effort]")
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait while another run tunes on this machine.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write one JSON object per line, for machines.")
]
ExportAnywayOption = Annotated[
    bool, typer.Option("--export-anyway", help="Export the best even if it is not proven.")
]


RunAsOption = Annotated[
    str | None, typer.Option(help="Run scripts as another user; for root only.")
]
TrialMemoryOption = Annotated[
    str | None, typer.Option(help="Kill a trial that uses more memory, such as 8G.")
]
TrialProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="Kill a trial that has more processes.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from autotuner import __version__

        typer.echo(f"autotune {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the fastest way to run a TensorFlow model on a CPU, and prove it."""


@app.command()
def run(
    context: typer.Context,
    study_file: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.TOML]", help="A file that describes the study.")
    ] = None,
    model: ModelOption = None,
    workload: WorkloadOption = None,
    batch_size: BatchSizeOption = None,
    shape: ShapeOption = None,
    python: PythonOption = None,
    study: Annotated[
        str | None, typer.Option(help="The study's name; one that exists is resumed.")
    ] = None,
    storage: StorageOption = None,
    knobs: Annotated[
        str | None,
        typer.Option(
            help="Knobs, groups or tiers (safe, extended, all) to search, with commas: see "
            "`autotune knobs`.  [default: safe]"
        ),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="fast, balanced or thorough: about 3, 10 and 30 minutes. [default: balanced]"
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials of the search in all.  [default: by effort]")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Time to aim at for all of it, such as 10m; may join --trials."),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help="Most pairs of the final; 0 for no final.  [default: by effort]"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="throughput, latency-p50, latency-p99 or cpu-efficiency.  [default: throughput]"
        ),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Leave out what needs more memory, such as 4G.")
    ] = None,
    max_latency_p99: Annotated[
        str | None, typer.Option(help="Leave out what has a longer p99 of step times, as 50ms.")
    ] = None,
    margin: MarginOption = None,
    strict_numerics: Annotated[
        bool | None,
        typer.Option(
            "--strict-numerics/--no-strict-numerics",
            help="Refuse a configuration that changes results beyond rounding.",
            show_default=False,
        ),
    ] = None,
    sequential: SequentialOption = None,
    warm: Annotated[
        str | None,
        typer.Option(
            help="Fork trials of the search from a process that has imported TensorFlow: auto, on "
            "or off.  [default: auto, if a check shows no difference; off with --run-as]"
        ),
    ] = None,
    export_anyway: ExportAnywayOption = False,
    sampler: Annotated[
        str | None, typer.Option(help="gp, tpe, random, grid or optuna-gp.  [default: gp]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The sampler's seed.  [default: 0]")] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="What a step is: auto, step, keras, dataset, function or process. [default: auto]"
        ),
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(help="Which phase: fit, evaluate, predict.  [default: the first that lasts]"),
    ] = None,
    measure_time: MeasureTimeOption = None,
    start_timeout: Annotated[
        str | None, typer.Option(help="Time until the first step ends.  [default: 300s]")
    ] = None,
    warmup_timeout: Annotated[
        str | None, typer.Option(help="Time until the speed is steady.  [default: 120s]")
    ] = None,
    measure_timeout: Annotated[
        str | None, typer.Option(help="Time until the measurement ends.  [default: 120s]")
    ] = None,
    import_trials: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Let the sampler learn from the trials of another study of this storage.",
        ),
    ] = None,
    wait: WaitOption = False,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a script: try configurations, compare the best with the defaults, write the files."""
    from autotuner.cli.resolve import Flags, confinement
    from autotuner.cli.run_study import run_study
    from autotuner.errors import UserError
    from autotuner.report.progress import JsonProgress

    flags = Flags(
        study_file=study_file,
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        study=study,
        knobs=knobs,
        trials=trials,
        budget=budget,
        effort=effort,
        pairs=pairs,
        objective=objective,
        max_memory=max_memory,
        max_latency_p99=max_latency_p99,
        margin=margin,
        strict_numerics=strict_numerics,
        sequential=sequential,
        warm=warm,
        sampler=sampler,
        seed=seed,
        measure=measure,
        phase=phase,
        measure_time=measure_time,
        start_timeout=start_timeout,
        warmup_timeout=warmup_timeout,
        measure_timeout=measure_timeout,
        batch_size=batch_size,
        shapes=tuple(shape or ()),
    )
    try:
        run_study(
            flags,
            storage_url=storage,
            import_from=import_trials,
            as_json=as_json,
            wait=wait,
            export_anyway=export_anyway,
            confinement=confinement(run_as, trial_memory, trial_processes),
        )
    except UserError as error:
        if as_json:
            JsonProgress().error(error.message, error.hint)
        raise


@app.command()
def worker(
    context: typer.Context,
    study_file: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.TOML]", help="A file that describes the study.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where the study is: postgresql://... or grpc://HOST:PORT.",
            envvar="AUTOTUNE_STORAGE",
            show_envvar=False,
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name.")] = None,
    model: ModelOption = None,
    workload: WorkloadOption = None,
    batch_size: BatchSizeOption = None,
    shape: ShapeOption = None,
    python: PythonOption = None,
    machine_class: Annotated[
        str | None,
        typer.Option(
            help="Parts in which this machine may differ from the study's, with commas: cpu, "
            "cores, quota, memory, isa.  [default: none]"
        ),
    ] = None,
    wait_for_study: Annotated[
        str | None,
        typer.Option(help="Wait so long for the study to be begun.  [default: 0s]"),
    ] = None,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join a study of `autotune run` from this or another machine, and work on it to its end."""
    from autotuner.cli.resolve import Flags, confinement
    from autotuner.cli.worker import work
    from autotuner.errors import UserError
    from autotuner.report.progress import JsonProgress

    flags = Flags(
        study_file=study_file,
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        study=study,
        batch_size=batch_size,
        shapes=tuple(shape or ()),
    )
    try:
        if storage is None:
            hint = "--storage postgresql://USER@HOST/DATABASE, as autotune run was given"
            raise UserError("--storage is missing", hint=hint)
        work(
            flags,
            storage_url=storage,
            machine_class=machine_class,
            wait_for_study=wait_for_study,
            as_json=as_json,
            confinement=confinement(run_as, trial_memory, trial_processes),
        )
    except UserError as error:
        if as_json:
            JsonProgress().error(error.message, error.hint)
        raise


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="env, python, json, dockerfile, kubernetes, systemd, serving or serving-batching.",
        ),
    ] = "env",
    output: Annotated[
        Path | None, typer.Option(help="The file to write.  [default: standard output]")
    ] = None,
    storage: StorageOption = None,
    export_anyway: ExportAnywayOption = False,
) -> None:
    """Print the recommended configuration of a study as a file to deploy."""
    from autotuner.cli.browse import export_study

    export_study(study, kind=kind, output=output, storage_url=storage, export_anyway=export_anyway)


@app.command()
def verify(
    context: typer.Context,
    best: Annotated[Path, typer.Argument(metavar="BEST.JSON", help="A file made by autotune.")],
    model: ModelOption = None,
    workload: WorkloadOption = None,
    batch_size: BatchSizeOption = None,
    shape: ShapeOption = None,
    python: PythonOption = None,
    fail_under: Annotated[
        float | None,
        typer.Option(help="Exit with 1 if the speed-up is below this, such as 1.05, for CI."),
    ] = None,
    effort: EffortOption = None,
    pairs: PairsOption = None,
    measure_time: MeasureTimeOption = None,
    phase: PhaseOption = None,
    margin: MarginOption = None,
    sequential: SequentialOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare an exported configuration with TensorFlow's defaults, here and today."""
    from autotuner.cli.resolve import Flags
    from autotuner.cli.versus import verify_file

    flags = Flags(
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        effort=effort,
        pairs=pairs,
        measure_time=measure_time,
        phase=phase,
        margin=margin,
        sequential=sequential,
        batch_size=batch_size,
        shapes=tuple(shape or ()),
    )
    if not verify_file(best, flags, fail_under=fail_under, wait=wait, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def compare(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(metavar="A.JSON", help="A configuration.")],
    second: Annotated[Path, typer.Argument(metavar="B.JSON", help="What it is compared with.")],
    model: ModelOption = None,
    workload: WorkloadOption = None,
    batch_size: BatchSizeOption = None,
    shape: ShapeOption = None,
    python: PythonOption = None,
    effort: EffortOption = None,
    pairs: PairsOption = None,
    measure_time: MeasureTimeOption = None,
    phase: PhaseOption = None,
    margin: MarginOption = None,
    sequential: SequentialOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two configurations: how much faster is A than B?"""
    from autotuner.cli.resolve import Flags
    from autotuner.cli.versus import compare_files

    flags = Flags(
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        effort=effort,
        pairs=pairs,
        measure_time=measure_time,
        phase=phase,
        margin=margin,
        sequential=sequential,
        batch_size=batch_size,
        shapes=tuple(shape or ()),
    )
    compare_files(first, second, flags, wait=wait, as_json=as_json)


@app.command(name="exec", epilog="autotune exec best.json -- python mymodel.py --epochs 3")
def execute(
    context: typer.Context,
    best: Annotated[Path, typer.Argument(metavar="BEST.JSON", help="A file made by autotune.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even on another machine or TensorFlow.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say on standard error what is set.")
    ] = False,
) -> None:
    """Run a command, given after --, with a configuration applied, tf.data included."""
    from autotuner.cli.execute import execute

    execute(best, context.obj or (), force=force, verbose=verbose)


@app.command()
def check(
    best: Annotated[Path, typer.Argument(metavar="BEST.JSON", help="A file made by autotune.")],
    python: PythonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read back, in a fresh process, which settings of a file take effect here."""
    from autotuner.cli.check import check_file

    if not check_file(best, python=python, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def doctor(
    context: typer.Context,
    model: ModelOption = None,
    workload: WorkloadOption = None,
    batch_size: BatchSizeOption = None,
    shape: ShapeOption = None,
    python: PythonOption = None,
    phase: PhaseOption = None,
    sequential: SequentialOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is here, what will bite, which knobs can act, and what holds a step up."""
    from autotuner.cli.doctor import examine
    from autotuner.cli.resolve import Flags

    flags = Flags(
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        phase=phase,
        sequential=sequential,
        batch_size=batch_size,
        shapes=tuple(shape or ()),
    )
    examine(flags, as_json=as_json, wait=wait)


@app.command()
def show(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: StorageOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all that the report shows, in full tables.")
    ] = False,
) -> None:
    """Show a study: its result and every trial."""
    from autotuner.cli.browse import show_study

    show_study(study, storage_url=storage, verbose=verbose)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    kind: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write.  [default: report.html in the study's folder for html, else "
            "standard output]"
        ),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write what a study has shown: one page to read, Markdown for pull requests, or JSON."""
    from autotuner.cli.report import report_study

    report_study(study, kind=kind, output=output, storage_url=storage)


@app.command()
def dashboard(
    storage: StorageOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Let nothing be changed from the browser.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AUTOTUNE_DASHBOARD_TOKEN",
            help="Let in only who gives it, on a login page or as a bearer token.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name by which the server is reached; may be repeated."),
    ] = None,
) -> None:
    """Browse studies in optuna-dashboard, also while one is running."""
    from autotuner.cli.dashboard import serve

    serve(
        storage_url=storage,
        host=host,
        port=port,
        allowed=allow_host or (),
        token=token,
        read_only=read_only,
    )


@app.command(name="list")
def list_studies(storage: StorageOption = None) -> None:
    """List all studies."""
    from autotuner.cli.browse import list_all

    list_all(storage_url=storage)


@app.command()
def compare_studies(
    first: Annotated[str, typer.Argument(metavar="A", help="A study's name.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another study's name.")],
    storage: StorageOption = None,
) -> None:
    """Show what two studies have come to, side by side."""
    from autotuner.cli.compare_studies import compare_studies

    compare_studies(first, second, storage_url=storage)


@app.command()
def clean(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="Studies to remove.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Remove studies that were not used for so long, as 30d.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove; without it, only say what would be removed.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Remove old studies with their files, and folders whose studies are gone."""
    from autotuner.cli.clean import clean

    clean(studies or (), older_than=older_than, yes=yes, storage_url=storage)


@app.command()
def serve(
    models: Annotated[Path, typer.Option(help="The folder of the scripts that may be submitted.")],
    storage: StorageOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    dashboard_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The dashboard's.  [default: one more]")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name by which the service is reached; may be repeated."),
    ] = None,
    interpreter: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of a Python that may be asked for; may be repeated."),
    ] = None,
    pass_env: Annotated[
        list[str] | None,
        typer.Option(help="A variable of this environment that scripts see; may be repeated."),
    ] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Ask for a token on loopback, too.")
    ] = False,
    worker_only: Annotated[
        bool, typer.Option("--worker-only", help="Work off the queue without an HTTP interface.")
    ] = False,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
) -> None:
    """Serve an HTTP interface and a page: submit studies, follow them, fetch what to deploy."""
    from autotuner.cli.resolve import confinement
    from autotuner.cli.serve import Front, serve
    from autotuner.trial.confinement import check_confinement

    # now, and not when the first study is to be tuned
    check_confinement(confinement(run_as, trial_memory, trial_processes))
    limits = {
        "--run-as": run_as,
        "--trial-memory": trial_memory,
        "--trial-processes": trial_processes,
    }
    front = Front(
        host=host,
        port=port,
        dashboard_port=dashboard_port,
        allowed=allow_host or (),
        require_token=require_token,
    )
    serve(
        None if worker_only else front,
        models=models,
        storage_url=storage,
        interpreters=interpreter or (),
        passed=pass_env or (),
        limits=[f"{name}={value}" for name, value in limits.items() if value is not None],
    )


tokens = typer.Typer(help="Make and revoke tokens of the service.", no_args_is_help=True)
app.add_typer(tokens, name="token")


@tokens.command(name="create")
def create_token(
    name: Annotated[str, typer.Option(help="Whose it is, for lists.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, or submit, which includes it; may be repeated. [default: read]"),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Make a token and print it, this once."""
    from autotuner.cli.serve import create

    create(name, scope or ["read"], storage)


@tokens.command(name="list")
def list_tokens(storage: StorageOption = None) -> None:
    """List tokens, without their secrets, which nobody has."""
    from autotuner.cli.serve import list_all

    list_all(storage)


@tokens.command(name="revoke")
def revoke_token(
    key: Annotated[str, typer.Argument(help="The token's key, as the list has it.")],
    storage: StorageOption = None,
) -> None:
    """Let a token not be valid any more."""
    from autotuner.cli.serve import revoke

    revoke(key, storage)


UrlOption = Annotated[
    str | None, typer.Option(help="The service.  [default: AUTOTUNE_URL, or this machine's]")
]
TokenOption = Annotated[str | None, typer.Option(help="A token.  [default: AUTOTUNE_TOKEN]")]


@app.command()
def submit(
    context: typer.Context,
    script: Annotated[str, typer.Argument(help="A path relative to the service's models.")],
    study: Annotated[
        str | None, typer.Option(help="The study's name.  [default: the script's]")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(help="fast, balanced or thorough. [default: balanced]")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="throughput, latency-p50, latency-p99 or cpu-efficiency.  [default: throughput]"
        ),
    ] = None,
    knobs: Annotated[
        str | None, typer.Option(help="Knobs, groups or tiers, with commas.  [default: safe]")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials of the search in all.  [default: by effort]")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time to aim at, such as 10m.")] = None,
    pairs: PairsOption = None,
    measure_time: MeasureTimeOption = None,
    python: Annotated[
        str | None, typer.Option(help="The name of one of the service's interpreters.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Put a study into a service's queue; the script's arguments come after --."""
    from autotuner.cli.remote import Remote, submit

    given = {
        "study": study,
        "effort": effort,
        "objective": objective,
        "knobs": None if knobs is None else [k.strip() for k in knobs.split(",") if k.strip()],
        "trials": trials,
        "budget": budget,
        "pairs": pairs,
        "measure_time": measure_time,
        "python": python,
    }
    with Remote(url, token) as remote:
        well = submit(remote, script, context.obj or (), given, follow=follow)
    if not well:
        raise typer.Exit(1)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="A study; without it all of them.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on telling until nothing is left to do.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Ask a service how far its studies are."""
    from autotuner.cli.remote import Remote, status

    with Remote(url, token) as remote:
        well = status(remote, study, follow=follow, as_json=as_json)
    if not well:
        raise typer.Exit(1)


@app.command()
def cancel(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """End a study that waits in a service's queue or is being tuned."""
    from autotuner.cli.remote import Remote, cancel

    with Remote(url, token) as remote:
        cancel(remote, study)


@app.command()
def fetch(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    kind: Annotated[str, typer.Option("--format", help="env, python, json or report.")] = "env",
    output: Annotated[
        Path | None, typer.Option(help="The file to write.  [default: standard output]")
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Fetch from a service what a study recommends, as a file to deploy."""
    from autotuner.cli.remote import Remote, fetch

    with Remote(url, token) as remote:
        fetch(remote, study, kind=kind, output=output)


@app.command()
def workloads() -> None:
    """List the reference workloads."""
    from rich.console import Console

    from autotuner.options.workloads import list_workloads
    from autotuner.report.lists import workloads_table

    rows = [(name, spec.description) for name, spec in list_workloads().items()]
    Console().print(workloads_table(rows))


@app.command()
def knobs() -> None:
    """List the knobs, with their domains on this machine."""
    from rich.console import Console

    from autotuner.knobs.catalogue import KNOBS
    from autotuner.machine.host import inspect_machine
    from autotuner.report.lists import knobs_table

    machine = inspect_machine()
    Console().print(f"machine: {machine.describe()}", highlight=False)
    Console().print(knobs_table(KNOBS.values(), machine))
