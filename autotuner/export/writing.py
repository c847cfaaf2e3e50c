"""Writing files atomically."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a draft beside the file, then rename it; a failure leaves the old file as it was.

    Raises:
        OSError: if it can't be written.
    """
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
