"""``autotune submit``, ``status`` and ``fetch``: a service, asked from elsewhere."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from autotuner.cli.serve import check_installed
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.export.writing import write_whole

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8765"
_FILES = {"env": "best.env", "python": "best.py", "json": "best.json", "report": "report.html"}
_TIMEOUT_S = 30.0
_SILENCE_S = 60.0


class Remote:
    """A service at a URL."""

    def __init__(self, url: str | None, token: str | None) -> None:
        check_installed()
        import httpx

        self._url = (url or os.environ.get("AUTOTUNE_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("AUTOTUNE_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._client = httpx.Client(
                base_url=self._url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"--url {self._url}: {error}", hint=f"write {DEFAULT_URL}") from error

    def get(self, path: str) -> "httpx.Response":
        """Return the answer to a GET; raise UserError for one that is no success."""
        return self._asked("GET", path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> "httpx.Response":
        """Return the answer to a POST; raise UserError for one that is no success."""
        return self._asked("POST", path, json=body)

    def _asked(self, method: str, path: str, **more: Any) -> "httpx.Response":
        import httpx

        try:
            answer = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        _check(answer)
        return answer

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the server-sent events of a path: their names, and what they tell."""
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
                        yield name, json.loads(value)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UserError:
        hint = "is autotune serve running there? AUTOTUNE_URL or --url says where"
        return UserError(f"{self._url}: {error or type(error).__name__}", hint=hint)


def _check(answer: "httpx.Response") -> None:
    if not answer.is_error:
        return
    try:
        said = answer.json()
        message, hint = str(said["error"]), said.get("hint")
    except (ValueError, KeyError, TypeError):
        message, hint = answer.text[:200] or answer.reason_phrase, None
    if answer.status_code == 401:
        hint = "AUTOTUNE_TOKEN or --token: see autotune token create"
    raise UserError(f"the service refuses: {message}", hint=hint)


def submit(
    remote: Remote,
    script: str,
    arguments: Sequence[str],
    given: Mapping[str, object],
    *,
    follow: bool,
) -> bool:
    """Put a study into the service's queue; return False if it is followed and fails."""
    asked = {name: value for name, value in given.items() if value is not None}
    body = {"script": script, "arguments": list(arguments), **asked}
    told = remote.post("/studies", body).json()
    sys.stdout.write(f"study {told['name']}: {told['state']}\n")
    sys.stdout.flush()
    return _follow(remote, told["name"]) if follow else True


def status(remote: Remote, study: str | None, *, follow: bool, as_json: bool) -> bool:
    """Print how far studies are; return False if one that is followed has failed."""
    if study is None:
        _print_all(remote, as_json=as_json)
        return True
    if follow and not as_json:
        return _follow(remote, study)
    told = remote.get(f"/studies/{quote(study, safe='')}").json()
    sys.stdout.write(json.dumps(told) + "\n" if as_json else _line(told) + "\n")
    return True


def _print_all(remote: Remote, *, as_json: bool) -> None:
    from rich.table import Table

    told = remote.get("/studies").json()
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
        return
    table = Table("study", "state", "done", "verdict", "trials", box=None)
    for one in told:
        done = f"{one['part']:.0%}" if one["state"] == "running" else ""
        table.add_row(one["name"], one["state"], done, one["result"] or "", str(one["trials"]))
    console = out_console()
    console.print(table if told else "there are no studies yet: autotune submit SCRIPT")


def _line(told: Mapping[str, Any]) -> str:
    done = f" {told['part']:.0%}" if told["state"] == "running" else ""
    return f"{told['name']}: {told['state']}{done}: {told['said'] or told['result'] or '-'}"


def _follow(remote: Remote, study: str) -> bool:
    last: dict[str, Any] = {}
    for name, told in remote.events(f"/studies/{quote(study, safe='')}/events"):
        if "error" in told:
            raise UserError(f"study {study}: {told['error']}")
        sys.stdout.write(_line(told) + "\n")
        sys.stdout.flush()
        last = told
        if name == "end":
            return bool(told["state"] in ("done", "idle"))
    hint = f"autotune status {study} --follow goes on"
    raise UserError(f"the service has ended while study {study} was {last.get('state')}", hint=hint)


def cancel(remote: Remote, study: str) -> None:
    """End a study that waits or is being tuned."""
    told = remote.post(f"/studies/{quote(study, safe='')}/cancel").json()
    sys.stdout.write(f"study {told['name']}: cancelled\n")


def fetch(remote: Remote, study: str, *, kind: str, output: Path | None) -> None:
    """Print or write what a study recommends."""
    if kind not in _FILES:
        raise UserError(f'--format: unknown format "{kind}"', hint=did_you_mean(kind, _FILES))
    text = remote.get(f"/studies/{quote(study, safe='')}/{_FILES[kind]}").text
    if output is None:
        sys.stdout.write(text)
        return
    try:
        write_whole(output, text)
    except OSError as error:
        raise UserError(f"--output {output}: can't be written: {error.strerror}") from error
