"""Files that are written whole or not at all, the cache folder, and fingerprints."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from leadline.errors import OutputError
from leadline.files import ensure_folder, fingerprint, home, replace_atomic, sha256_file, write_atomic


def test_a_file_is_written_as_given(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"\x00\xff")
    write_atomic(tmp_path / "b", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "é\n".encode()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomic(file, "old, and longer")
    write_atomic(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("fault", [RuntimeError("bug"), KeyboardInterrupt(), MemoryError()])
def test_a_fault_half_way_leaves_the_old_content_and_no_litter(tmp_path: Path, fault: BaseException) -> None:
    file = tmp_path / "a"
    write_atomic(file, "old")

    def write() -> None:
        with replace_atomic(file) as temporary:
            temporary.write_text("half of the n")
            raise fault

    with pytest.raises(type(fault)):
        write()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_told_and_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomic(file, "old")
    with pytest.raises(OutputError, match=r"No space left.*unchanged"), replace_atomic(file):
        raise OSError(28, "No space left on device")
    with pytest.raises(OutputError, match="odd"), replace_atomic(file):
        raise OSError("odd")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_temporary_file_stands_in_the_same_folder_and_may_be_replaced_by_its_writer(tmp_path: Path) -> None:
    with replace_atomic(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path
        other = tmp_path / "other"
        other.write_text("from a writer that renames")
        other.rename(temporary)
    assert (tmp_path / "a").read_text() == "from a writer that renames"
    assert os.listdir(tmp_path) == ["a"]


def test_a_finished_file_has_the_rights_that_the_umask_grants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", "x")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    finally:
        assert os.umask(before) == 0o027


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "missing" / "a", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "folder", "x")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = ensure_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert os.listdir(folder) == []
    assert ensure_folder(folder) == folder


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        ensure_folder(tmp_path / "a")
    with pytest.raises(OutputError, match="cannot write to the folder"):
        ensure_folder(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_made_or_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match=r"Permission denied.*--out"):
        ensure_folder(tmp_path)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LEADLINE_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() == tmp_path / ".cache" / "leadline"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert home() == tmp_path / "xdg" / "leadline"
    monkeypatch.setenv("LEADLINE_HOME", "~/mine")
    assert home() == tmp_path / "mine"
    monkeypatch.setenv("LEADLINE_HOME", "")
    assert home() == tmp_path / "xdg" / "leadline"


def test_the_sum_of_a_file(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_is_the_same_for_the_same_parts_and_another_for_others() -> None:
    assert fingerprint("a", 1, None, {"x": 1, "y": [2.5]}) == fingerprint("a", 1, None, {"y": (2.5,), "x": 1})
    assert len({fingerprint("ab"), fingerprint("a", "b"), fingerprint(["a", "b"]), fingerprint("b", "a")}) == 4
    # Stores and probes on disk carry fingerprints, so they may not change from one version to the next.
    assert fingerprint("a", 1, "é") == hashlib.sha256('["a",1,"é"]'.encode()).hexdigest()[:16]
    assert len(fingerprint()) == 16
