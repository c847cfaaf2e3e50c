"""``autotune dashboard``: serve optuna-dashboard."""

import contextlib
import sys
from collections.abc import Sequence

from autotuner.cli.browse import HOME
from autotuner.dashboard.server import check_for, open_server
from autotuner.study.artifacts import artifact_folder
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
    storage = open_storage(url, create=False)
    server = open_server(
        storage,
        artifact_folder(HOME),
        host=host,
        port=port,
        allowed=allowed,
        check=check_for(token),
        read_only=read_only,
    )
    mode = ", read-only" if read_only else ""
    name = f"[{host}]" if ":" in host else host
    # as soon as it says that Ctrl-C ends it, nothing else becomes of one
    with contextlib.suppress(KeyboardInterrupt, SystemExit), contextlib.closing(server):
        sys.stdout.write(f"{shown_url(url)}{mode}: http://{name}:{server.port}/\n")
        sys.stdout.write("Ctrl-C ends it\n")
        sys.stdout.flush()
        server.run()
