"""``autotune dashboard``: serve optuna-dashboard."""

import contextlib
import sys
from collections.abc import Sequence

from autotuner.service.access import bracketed
from autotuner.service.dashboard import open_dashboard, single_token
from autotuner.service.server import log_refusals
from autotuner.study.artifacts import artifact_folder
from autotuner.study.folders import HOME
from autotuner.study.storage import default_url, open_storage, shown_url


def serve(
    *,
    storage_url: str | None,
    host: str,
    port: int,
    allowed: Sequence[str],
    token: str | None,
    read_only: bool,
) -> None:
    """Serve until Ctrl-C or SIGTERM, which are the regular end: the exit code is 0."""
    url = storage_url or default_url(HOME)
    log_refusals()
    server = open_dashboard(
        open_storage(url, create=False),
        artifact_folder(HOME),
        host=host,
        port=port,
        allowed=allowed,
        login=single_token(token),
        read_only=read_only,
    )
    mode = ", read-only" if read_only else ""
    # once the line about Ctrl-C is printed, Ctrl-C is a regular end
    with contextlib.suppress(KeyboardInterrupt, SystemExit), contextlib.closing(server):
        sys.stdout.write(f"{shown_url(url)}{mode}: http://{bracketed(host)}:{server.port}/\n")
        sys.stdout.write("Ctrl-C ends it\n")
        sys.stdout.flush()
        server.run()
