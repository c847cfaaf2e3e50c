"""``autotune submit``, ``status``, ``cancel`` and ``fetch``: clients of a service.

They load neither Optuna nor NumPy, so that deployment scripts can call them often.
"""

import json
import os
import shlex
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from autotuner.cli.extras import check_installed
from autotuner.cli.flags import Flags
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.files import write_whole
from autotuner.options.names import check_name
from autotuner.options.option import Place
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import spec_from_given, to_given
from autotuner.plain import plain

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8765"
_FILES = {"env": "best.env", "python": "best.py", "json": "best.json", "report": "report.html"}
_TIMEOUT_S = 30.0
_SILENCE_S = 60.0
_LOOK_S = 2.0
_ON_A_PAGE = 500
_ACTIVE = ("queued", "running")
_WELL = ("done", "idle")
_FIELDS = {"name", "state", "progress", "message", "result", "trials"}
Status = dict[str, Any]
"""A study's status, as the service sends it: JSON of its StudyStatus."""

Render = Callable[[Status], str]


class Remote:
    """A service at a URL. Leaving the context closes the connection."""

    def __init__(self, url: str | None, token: str | None) -> None:
        check_installed("httpx")
        import httpx

        self._url = (url or os.environ.get("AUTOTUNE_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("AUTOTUNE_TOKEN")
        if token and not token.isascii():
            hint = "a token is at_..., from autotune token create"
            raise UserError("the token holds characters that no token has", hint=hint)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._client = httpx.Client(
                base_url=self._url,
                headers=headers,
                timeout=_TIMEOUT_S,
                verify=ssl.create_default_context(),  # certificates that this machine trusts
                trust_env=False,  # requests to loopback must not go through a proxy
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"--url {self._url}: {error}", hint=f"write {DEFAULT_URL}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def get(self, path: str) -> "httpx.Response":
        """Return the answer to a GET; raise UserError if the service refuses it."""
        return self._send("GET", path)

    def studies(self) -> list["Status"]:
        """Return the status of all studies, page by page."""
        found: list[Status] = []
        path: str | None = f"/studies?limit={_ON_A_PAGE}"
        while path is not None:
            answer = self.get(path)
            found += _statuses(answer)
            path = answer.links.get("next", {}).get("url")
        return found

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> "httpx.Response":
        """Return the answer to a POST; raise UserError if the service refuses it."""
        return self._send("POST", path, json=body)

    def _send(self, method: str, path: str, **more: Any) -> "httpx.Response":
        import httpx

        try:
            answer = self._client.request(method, path, **more)
        except (httpx.HTTPError, UnicodeError) as error:
            raise self._unreachable(error) from error
        _check(answer)
        return answer

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the server-sent events of a path: their names and data."""
        import httpx

        timeout = httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        try:
            with self._client.stream("GET", path, timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                _check(answer)
                name = ""
                for line in answer.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield name, _event(answer, value)
        except (httpx.HTTPError, UnicodeError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UserError:
        hint = "is autotune serve running there? Set AUTOTUNE_URL or --url"
        return UserError(f"{self._url}: {error or type(error).__name__}", hint=hint)


def _check(answer: "httpx.Response") -> None:
    if not answer.is_error:
        return
    try:
        problem = answer.json()
        message, hint = str(problem["error"]), problem.get("hint")
    except (ValueError, KeyError, TypeError):
        message, hint = answer.text[:200] or answer.reason_phrase, None
    if answer.status_code == 401:
        hint = "AUTOTUNE_TOKEN or --token: see autotune token create"
    raise UserError(f"the service refused the request: {message}", hint=hint)


def _statuses(answer: "httpx.Response") -> list[Status]:
    """Return the statuses that an answer holds.

    Raises:
        UserError: if they are none, as in an answer of another kind of server.
    """
    found = _json(answer, answer.text)
    if not isinstance(found, list) or not all(map(_is_status, found)):
        raise _foreign(answer)
    return found


def _status(answer: "httpx.Response") -> Status:
    """Return the status that an answer holds. Raises UserError if it is none."""
    found = _json(answer, answer.text)
    if not _is_status(found):
        raise _foreign(answer)
    status: Status = found
    return status


def _event(answer: "httpx.Response", text: str) -> Status:
    """Return the data of an event. Raises UserError if it is neither a status nor an error."""
    found = _json(answer, text)
    if not _is_status(found) and not (isinstance(found, dict) and "error" in found):
        raise _foreign(answer)
    event: Status = found
    return event


def _is_status(found: object) -> bool:
    return isinstance(found, dict) and set(found) >= _FIELDS


def _json(answer: "httpx.Response", text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _foreign(answer) from error


def _foreign(answer: "httpx.Response") -> UserError:
    hint = "is it autotune serve that listens there? Set AUTOTUNE_URL or --url"
    return UserError(f"{answer.url}: the answer is none of autotune's service", hint=hint)


def request_body(script: str, flags: Flags) -> dict[str, object]:
    """Return the body of a request for a study.

    Raises:
        UserError: for the first flag whose value is wrong.
    """
    options = dict(flags.given)
    python = options.pop("python", None)  # the name of one of the service's, not a path
    base = StudySpec(model=Path(script), arguments=flags.arguments)
    spec = spec_from_given(options, base=base, place=Place.FLAG)
    own = {"script": script} if python is None else {"script": script, "python": python}
    return {**own, **to_given(spec)}


def submit(remote: Remote, body: Mapping[str, object], *, follow: bool) -> bool:
    """Add a study to the service's queue; return False if it is followed and fails."""
    status = _status(remote.post("/studies", body))
    _print(plain(f"study {status['name']}: {status['state']}"))
    return _follow(remote, status["name"], _line) if follow else True


def status(remote: Remote, study: str | None, *, follow: bool, as_json: bool) -> bool:
    """Print the status of studies; return False if a followed study has failed."""
    render: Render = json.dumps if as_json else _line
    if study is None:
        return _follow_all(remote, render) if follow else _print_all(remote, as_json=as_json)
    if follow:
        return _follow(remote, study, render)
    _print(render(_status(remote.get(_path(study)))))
    return True


def _path(study: str, *rest: str) -> str:
    check_name(study, "STUDY")
    return "/".join(["/studies", quote(study, safe=""), *rest])


def _line(status: Status) -> str:
    done = f" {status['progress']:.0%}" if status["state"] == "running" else ""
    message = status["message"] or status["result"] or "-"
    return plain(f"{status['name']}: {status['state']}{done}: {message}")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_all(remote: Remote, *, as_json: bool) -> bool:
    from rich.table import Table

    from autotuner.report.lists import cell

    studies = remote.studies()
    if as_json:
        _print(json.dumps(studies))
        return True
    table = Table("study", "state", "done", "verdict", "trials", box=None)
    for one in studies:
        done = f"{one['progress']:.0%}" if one["state"] == "running" else ""
        cells = (one["name"], one["state"], done, one["result"] or "", str(one["trials"]))
        table.add_row(*map(cell, cells))
    console = out_console()
    console.print(table if studies else "there are no studies yet: autotune submit SCRIPT")
    return True


def _follow(remote: Remote, study: str, render: Render) -> bool:
    state, last = "not known", ""
    for name, status in remote.events(_path(study, "events")):
        if "error" in status:
            raise UserError(f"study {study}: {status['error']}")
        state, text = status["state"], render(status)
        if text != last:
            _print(text)
            last = text
        if name == "end":
            return state in _WELL
    hint = f"follow it again: autotune status {shlex.quote(study)} --follow"
    raise UserError(f"the service has ended; study {study} was {state}", hint=hint)


def _follow_all(remote: Remote, render: Render) -> bool:
    """Print changes until no study is queued or running; return whether none has failed."""
    shown: dict[str, str] = {}
    while True:
        studies = remote.studies()
        active = {one["name"] for one in studies if one["state"] in _ACTIVE}
        followed = [one for one in studies if one["name"] in {*active, *shown}]
        for name, text in ((one["name"], render(one)) for one in followed):
            if text != shown.get(name):
                _print(text)
                shown[name] = text
        if not active:
            return all(one["state"] in _WELL for one in followed)
        time.sleep(_LOOK_S)


def cancel(remote: Remote, study: str) -> None:
    """Cancel a study that is queued or running."""
    status = _status(remote.post(_path(study, "cancel")))
    outcome = "cancelled" if status["state"] == "cancelled" else "cancelling"
    _print(plain(f"study {status['name']}: {outcome}"))


def fetch(remote: Remote, study: str, *, kind: str, output: Path | None) -> None:
    """Print or write a file with a study's recommended configuration."""
    if kind not in _FILES:
        raise UserError(f'--format: unknown format "{kind}"', hint=did_you_mean(kind, _FILES))
    text = remote.get(_path(study, _FILES[kind])).text
    if output is None:
        sys.stdout.write(text)
        return
    try:
        write_whole(output, text)
    except OSError as error:
        raise UserError(f"--output {output}: can't be written: {error.strerror}") from error
