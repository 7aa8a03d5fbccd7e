"""Engines are code: what is not provably ours is never given out."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.engines import EngineCache, prepare
from runtime.engines.cache import MANIFEST, default_folder, digest
from runtime.engines.writing import PARTIAL
from tests.runtime.engines.helpers import QuickBuilder, planned
from textsr.errors import EngineError


@pytest.fixture
def engine(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> Path:
    """The file of an engine that was built into the cache."""
    prepare(planned(bundle, cache)[0])
    return cache.folder / next(iter(cache.entries().values())).file


def test_what_was_built_is_ready_and_private(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder, engine: Path
) -> None:
    wanted, one = planned(bundle, cache)
    assert (one.state, one.reason, one.size) == ("ready", "", engine.stat().st_size)
    found = prepare(wanted, on_mismatch="refuse")["small"]
    assert (found.read(), found.built, found.layers, found.seconds) == (engine.read_bytes(), False, 3, 0.25)
    assert quick.built == ["small"]
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}
    assert json.loads((cache.folder / MANIFEST).read_text())["entries"][one.key]["parts"] == one.parts
    assert one.key == digest(one.parts)


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


def link_away(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (change_a_byte, "our manifest says"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "our manifest says"),
        (lambda path: path.unlink(), "is missing"),
        (link_away, "is a symbolic link"),
        (make_fifo, "is no plain file"),
        (lambda path: path.chmod(0o660), "may be written by other users"),
        (lambda path: path.chmod(0o602), "may be written by other users"),
    ],
    ids=["byte", "longer", "missing", "link", "fifo", "group", "world"],
)
def test_a_harmed_engine_is_refused_or_built_again(
    harm: Callable[[Path], object],
    reason: str,
    bundle: Bundle,
    cache: EngineCache,
    quick: QuickBuilder,
    engine: Path,
) -> None:
    ready = prepare(planned(bundle, cache)[0])["small"]
    harm(engine)
    with pytest.raises(EngineError, match=reason):
        ready.read()
    wanted, one = planned(bundle, cache)
    assert one.state == "damaged"
    assert reason in one.reason
    with pytest.raises(EngineError, match=f"small is damaged: .*{reason}"):
        prepare(wanted, on_mismatch="refuse")
    assert quick.built == ["small"]
    again = prepare(wanted)["small"]
    assert (again.built, quick.built) == (True, ["small", "small"])
    assert again.read() == engine.read_bytes()
    assert engine.is_file()
    assert not engine.is_symlink()


def test_without_the_manifest_no_engine_is_ours(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder, engine: Path
) -> None:
    (cache.folder / MANIFEST).unlink()
    wanted, one = planned(bundle, cache)
    assert (one.state, cache.strangers()) == ("missing", (engine.name,))
    with pytest.raises(EngineError, match="knows no"):
        cache.read(one.key)
    with pytest.raises(EngineError, match="not ready"):
        prepare(wanted, on_mismatch="refuse")


def test_a_foreign_file_is_told_and_left_alone(bundle: Bundle, cache: EngineCache, engine: Path) -> None:
    foreign = cache.folder / "tiny-other-fp32-0123456789abcdef.engine"
    foreign.write_bytes(b"not ours")
    assert cache.strangers() == (foreign.name,)
    wanted, one = planned(bundle, cache)
    assert one.state == "ready"
    prepare(wanted)
    assert foreign.read_bytes() == b"not ours"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2, "entries": {}}', '{"format": 1, "entries": {"k": {"file": "../x"}}}'],
)
def test_a_damaged_manifest_is_told(text: str, cache: EngineCache, engine: Path) -> None:
    (cache.folder / MANIFEST).write_text(text)
    with pytest.raises(EngineError, match="engines are built again"):
        cache.entries()


@pytest.mark.parametrize(
    "name", ["../../etc-0123456789abcdef.engine", "/etc/passwd", "x.engine", "A-0123456789abcdef.engine"]
)
def test_a_manifest_cannot_name_files_elsewhere(name: str, cache: EngineCache, engine: Path) -> None:
    path = cache.folder / MANIFEST
    manifest = json.loads(path.read_text())
    key = next(iter(manifest["entries"]))
    manifest["entries"][key]["file"] = name
    path.write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="is damaged"):
        cache.read(key)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_refused(
    mode: int, bundle: Bundle, cache: EngineCache, quick: QuickBuilder, engine: Path
) -> None:
    wanted, one = planned(bundle, cache)
    cache.folder.chmod(mode)
    for attempt in (
        lambda: EngineCache(cache.folder),
        cache.entries,
        lambda: cache.read(one.key),
        lambda: planned(bundle, cache),
        lambda: prepare(wanted),
    ):
        with pytest.raises(EngineError, match="may be written by other users"):
            attempt()
    assert quick.built == ["small"]


def test_a_folder_below_one_that_others_may_write_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "shared"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(EngineError, match=r"shared, above the engine cache, may be written"):
        EngineCache(open_to_all / "mine" / "engines")
    open_to_all.chmod(0o1777)
    assert EngineCache(open_to_all / "mine").entries() == {}, "a sticky folder, as /tmp, is safe"


def test_a_linked_folder_or_manifest_is_refused(tmp_path: Path, cache: EngineCache, engine: Path) -> None:
    (tmp_path / "link").symlink_to(cache.folder)
    with pytest.raises(EngineError, match="is a symbolic link: name the folder itself"):
        EngineCache(tmp_path / "link")
    link_away(cache.folder / MANIFEST)
    with pytest.raises(EngineError, match="is a symbolic link"):
        cache.entries()
    with pytest.raises(EngineError, match="is not a folder"):
        EngineCache(engine)


def test_another_users_folder_and_files_are_refused(
    bundle: Bundle, cache: EngineCache, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(EngineError, match=f"belongs to user {me}"):
        cache.entries()
    monkeypatch.undo()
    _, one = planned(bundle, cache)
    real = os.fstat

    def given_away(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[stat.ST_UID] = me + 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", given_away)
    with pytest.raises(EngineError, match=f"{MANIFEST} belongs to user {me + 1}, not to this one"):
        cache.read(one.key)


def test_leftovers_of_a_killed_process_go_at_the_next_write(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder, engine: Path
) -> None:
    left = cache.folder / f"{PARTIAL}abc"
    left.write_bytes(b"half")
    assert cache.strangers() == ()
    with cache.lock():
        assert not left.exists()


def test_a_failing_write_leaves_nothing(
    bundle: Bundle, cache: EngineCache, quick: QuickBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(planned(bundle, cache)[0])
    assert [path.name for path in cache.folder.iterdir()] == [".lock"]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TEXTSR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "textsr" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "textsr" / "engines"
    monkeypatch.setenv("TEXTSR_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / "engines"
