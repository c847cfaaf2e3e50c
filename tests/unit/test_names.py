"""The names of studies and their folders, for any text that hypothesis finds."""

import json
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autotuner.errors import UserError
from autotuner.options.names import MOST_CHARACTERS, check_name, name_from, name_problem, numbered
from autotuner.study.folders import (
    claim_folder,
    folder_name,
    marked_folders,
    remove_folder,
)

HOSTILE = [
    *("", " ", ".", "..", "../x", "/", "/etc", "a/b", "a\\b", "a ", " a", "a.", ".a", "-a", "~"),
    *("autotune-queue", "autotune-queue-0", "autotune-queue-x", "a~2", "CON"),
    *("studies.db", "studies.db-journal", "artifacts", "versus"),
    *("é", "e\u0301", "A", "a", "\ufb01", "fi", "İ", "x" * 64, "x" * 65, "x" * 100, "名" * 100),
    *("a\nb", "\x1b[31m", "\u202e", "\x00", "\udcff"),
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=120))


@given(TEXTS)
def test_the_rule(name: str) -> None:
    """A name is printable, neither empty nor blank, and has at most 100 characters."""
    fits = bool(name.strip()) and name.isprintable()
    fits = fits and len(name) <= MOST_CHARACTERS and name not in (".", "..")
    fits = fits and re.fullmatch(r"autotune-queue(-[0-9]+)?", name) is None
    assert (name_problem(name) is None) == fits
    if fits:
        assert check_name(name, "--study") == name
    else:
        with pytest.raises(UserError) as raised:
            check_name(name, "--study")
        assert raised.value.message.startswith("--study: a study's name ")
        assert raised.value.message.isprintable()


@given(TEXTS, st.integers(2, 10**6))
def test_a_name_with_a_number_is_a_name(name: str, number: int) -> None:
    """Though the longest name gets a number."""
    if name_problem(name) is None:
        assert name_problem(numbered(name, number)) is None or name == "autotune-queue"


@given(TEXTS)
def test_a_name_can_be_made_of_any_text(text: str) -> None:
    """A name stays; another text becomes one."""
    assert name_problem(name_from(text)) is None
    assert (name_from(text) == text) == (name_problem(text) is None)


@given(TEXTS)
def test_a_folder_s_name_is_one_plain_part_of_a_path(name: str) -> None:
    """Neither hidden, nor a way out, nor longer than a file system allows."""
    folder = folder_name(name)
    assert Path(folder).name == folder
    assert folder.isascii()
    assert folder.isprintable()
    assert len(folder) <= 64
    assert folder[0] not in ".- "
    assert folder[-1] not in ". "


@given(TEXTS, TEXTS)
@example("é", "e\u0301")
@example("a", "a ")
@example("a.", "a")
@example("x" * 64, "x" * 65)
def test_two_names_have_two_folders(one: str, other: str) -> None:
    """Normalisation forms, blanks and dots are kept apart, without a look at the disk."""
    assert (folder_name(one) == folder_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["train", "ResNet-50_v1.5", "2026-11-29", "x" * 64])
def test_plain_names_are_kept(name: str) -> None:
    """They are what users type."""
    assert folder_name(name) == name


def test_namesakes_of_another_storage_and_another_case(tmp_path: Path) -> None:
    """The marker decides, also where a file system takes A and a for the same."""
    first = claim_folder(tmp_path, "a", "studies.db")
    assert claim_folder(tmp_path, "a", "studies.db") == first
    assert claim_folder(tmp_path, "a", "postgresql://x") == first.with_name("a~2")
    first.rename(first.with_name("B"))  # as if B were a
    assert claim_folder(tmp_path, "B", "studies.db").name == "B~2"
    assert [study for _, study in marked_folders(tmp_path, "studies.db")] == ["a", "B"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name_problem(name) is None])
def test_only_a_study_s_own_folder_is_removed(tmp_path: Path, name: str) -> None:
    """Everything else stays, whatever the names are."""
    kept = claim_folder(tmp_path, "kept", "studies.db")
    (tmp_path / "studies.db").touch()
    (tmp_path / "artifacts").mkdir()
    folder = claim_folder(tmp_path, name, "studies.db")
    (folder / "trials").mkdir()
    assert folder.parent == tmp_path / "studies"
    (folder / "trials" / "link").symlink_to(kept)
    assert remove_folder(tmp_path, folder, name, "studies.db")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "artifacts", "studies", "studies.db",
    ]  # fmt: skip
    assert [entry.name for entry in (tmp_path / "studies").iterdir()] == ["kept"]
    assert (kept / "study.json").exists()


def test_what_is_not_removed(tmp_path: Path) -> None:
    """Another study's folder, a copy elsewhere, a folder without a marker, a link, a parent."""
    mine = claim_folder(tmp_path / "here", "s", "studies.db")
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "here", other)
    studies = mine.parent
    unmarked = studies / "unmarked"
    unmarked.mkdir()
    (studies / "link").symlink_to(other / "studies" / "s")
    broken = studies / "broken"
    broken.mkdir()
    (broken / "study.json").write_text(json.dumps(["s", "studies.db"]))
    home = tmp_path / "here"
    for folder, study in (
        (mine, "another"),
        (other / "studies" / "s", "s"),
        (unmarked, "s"),
        (studies / "link", "s"),
        (broken, "s"),
        (studies, "s"),
        (home, "s"),
        (mine / "trials", "s"),
    ):
        assert not remove_folder(home, folder, study, "studies.db")
    assert not remove_folder(home, mine, "s", "another storage")
    assert (other / "studies" / "s" / "study.json").exists()
    assert (mine / "study.json").exists()


def test_normalisation_forms_are_different_names() -> None:
    """NFC and NFD of one word look alike, and are two studies."""
    word = "Größe"
    forms = {unicodedata.normalize(form, word) for form in ("NFC", "NFD")}
    assert len({folder_name(form) for form in forms}) == 2
