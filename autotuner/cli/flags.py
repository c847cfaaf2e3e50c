"""The options of a study as parameters of a command, made from the table of options."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autotuner.options.kinds import Kind
from autotuner.options.option import Group, Option
from autotuner.options.workloads import workload_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """A study's options on the command line, unchecked.

    ``given``: values as typer has parsed them, by the keys of the table of options; options that
    were not given are absent. ``arguments``: of the script, after ``--``.
    """

    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    study_file: Path | None = None
    workload: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def study(self) -> str | None:
        """The value of ``--study``."""
        return self.given.get("study")

    @property
    def python(self) -> Path | None:
        """The value of ``--python``."""
        return self.given.get("python")


def choices(values: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Return a function that completes to one of these values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def default(text: str) -> str:
    """Return the end of a help text that states a default, escaped from rich's markup."""
    return rf"  [dim]\[default: {text}][/dim]"


def _workloads(incomplete: str) -> list[str]:
    return choices(tuple(workload_names()))(incomplete)


_STUDY_FILE = Annotated[
    Path | None,
    typer.Argument(
        metavar="STUDY.TOML",
        help="File that describes the study.",
        show_default=False,
    ),
]
_WORKLOAD = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Reference workload; `autotune workloads` lists them.",
        rich_help_panel=Group.SCRIPT,
        autocompletion=_workloads,
        show_default=False,
    ),
]


def _keyword(name: str, annotation: Any, initial: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=initial, annotation=annotation
    )


def _decl(option: Option, kind: Kind) -> str:
    return f"{option.flag}/--no-{option.flag[2:]}" if kind.negatable else option.flag


def _parameter(option: Option) -> inspect.Parameter:
    """Return the parameter of a command for an option; its value is None if it is not given."""
    kind = option.kind
    declaration = typer.Option(
        _decl(option, kind),
        help=option.help_text + (default(option.default_text) if option.default_text else ""),
        metavar=kind.metavar,
        rich_help_panel=option.group,
        hidden=option.hidden,
        autocompletion=choices(kind.choices) if kind.choices and kind.metavar else None,
        show_default=False,
    )
    return _keyword(option.key, Annotated[kind.flag_type | None, declaration])


def study_options(
    *options: Option, study_file: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a study; it takes them as one parameter ``flags``.

    Args:
        options: of the table; a command with ``--model`` takes ``--workload`` as well.
        study_file: whether the command takes a ``study.toml``.
    """
    keys = [option.key for option in options]

    def parameters(command: Callable[..., None]) -> Iterator[inspect.Parameter]:
        yield _keyword("context", typer.Context, inspect.Parameter.empty)
        if study_file:
            yield _keyword("study_file", _STUDY_FILE)
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name != "flags":
                yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                continue
            for option in sorted(options, key=lambda option: list(Group).index(option.group)):
                yield _parameter(option)
                if option.key == "model":  # --workload replaces --model by a shipped script
                    yield _keyword("workload", _WORKLOAD)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_flags(context: typer.Context, **given: Any) -> None:
            values = {key: given.pop(key) for key in keys}
            flags = Flags(
                given={k: v for k, v in values.items() if v is not None and v != []},
                study_file=given.pop("study_file", None),
                workload=given.pop("workload", None),
                arguments=context.obj or (),
            )
            command(flags=flags, **given)

        signature = inspect.Signature(list(parameters(command)))
        with_flags.__signature__ = signature  # type: ignore[attr-defined]
        with_flags.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        return with_flags

    return decorate
