"""Collecting inputs, naming results, and sidecars."""

from __future__ import annotations

from pathlib import Path

import pytest

from textsr.errors import InputError
from textsr.inputs import check_outputs, collect
from textsr.sidecars import read_texts


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/a.png", "in/sub/b.JPG", "in/sub/c.d.webp", "in/notes.txt", "in/.hidden/x.png", "in/.y.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(*inputs: str) -> list[str]:
    return [item.output(Path("out")).as_posix() for item in collect(inputs).items]


def test_names_of_results(tree: Path) -> None:
    assert outputs("in") == ["out/a.png", "out/sub/b.png", "out/sub/c.d.png"]
    assert outputs("in/sub/b.JPG", "in/notes.txt") == ["out/b.png", "out/notes.png"]
    assert outputs("in/*.png") == ["out/a.png"]
    assert outputs("in/**/*") == ["out/a.png", "out/sub/b.png", "out/sub/c.d.png"]
    assert outputs(str(tree / "in" / "*" / "b.*")) == ["out/sub/b.png"]
    assert outputs("in", "in/a.png", "in/../in/a.png") == outputs("in")


def test_earlier_results_are_no_inputs(tree: Path) -> None:
    items = collect(["."], Path("in/sub")).items
    assert [item.path.name for item in items] == ["a.png"]


def test_a_file_with_wildcards_in_its_name_is_itself(tree: Path) -> None:
    (tree / "in" / "a[1].png").write_bytes(b"x")
    assert outputs("in/a[1].png") == ["out/a[1].png"]


def test_what_gives_nothing_is_named(tree: Path) -> None:
    (tree / "void").mkdir()
    found = collect(["absent.png", "void", "in/*.bmp", "in/a.png"])
    assert [name for name, _ in found.failures] == ["absent.png", "void", "in/*.bmp"]
    assert len(found.items) == 1


def test_collisions_are_refused(tree: Path) -> None:
    (tree / "in" / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would both"):
        check_outputs(collect(["in"]).items, Path("out"), compare=False, overwrite=True)
    (tree / "in" / "a.jpg").rename(tree / "in" / "a.compare.jpg")
    check_outputs(collect(["in"]).items, Path("out"), compare=False, overwrite=False)
    with pytest.raises(InputError, match="would both"):
        check_outputs(collect(["in"]).items, Path("out"), compare=True, overwrite=False)


def test_a_result_and_a_folder_of_one_name_are_refused(tree: Path) -> None:
    (tree / "in" / "a.png").rename(tree / "in" / "a.jpg")
    (tree / "in" / "sub").rename(tree / "in" / "a.png")
    with pytest.raises(InputError, match="folder"):
        check_outputs(collect(["in"]).items, Path("out"), compare=False, overwrite=True)


def test_existing_files_and_inputs_are_protected(tree: Path) -> None:
    items = collect(["in"]).items
    (tree / "out").mkdir()
    (tree / "out" / "a.png").touch()
    with pytest.raises(InputError, match="--overwrite"):
        check_outputs(items, Path("out"), compare=False, overwrite=False)
    check_outputs(items, Path("out"), compare=False, overwrite=True)
    with pytest.raises(InputError, match="replace an input"):
        check_outputs(items, Path("in"), compare=False, overwrite=True)


def test_texts(tree: Path) -> None:
    items = collect(["in"]).items
    sidecar = tree / "in" / "t.tsv"
    sidecar.write_text(
        "\ufeff# path, text, confidences\r\na.png\tHi\t0.5, 1\r\n\r\nsub/b\t超分\t0.25\nin/sub/c.d.webp\t\n",
        encoding="utf-8",
    )
    first, second, third = read_texts(str(sidecar), items)
    assert first is not None
    assert (first.text, first.confidences) == ("Hi", (0.5, 1.0))
    assert second is not None
    assert (second.text, second.confidences) == ("超分", (0.25, 0.25))
    assert third is not None
    assert (third.text, third.confidences) == ("", None)
    assert read_texts(None, items) == [None, None, None]
    assert [text.text for text in read_texts("", items) if text] == ["", "", ""]
    single = read_texts("Hi", items[:1])[0]
    assert single is not None
    assert single.text == "Hi"


@pytest.mark.parametrize(
    "row", ["a.png", "a.png\tHi\t0.5", "a.png\tHi\tx,y", "a.png\tHi\t1,2", "a.png\tHi\t1\t2", "a.png\tHi\t0.1,0.2,0.3"]
)
def test_malformed_sidecars_name_the_line(tree: Path, row: str) -> None:
    items = collect(["in"]).items
    (tree / "t.tsv").write_text(f"sub/b\tok\n{row}\n", encoding="utf-8")
    if row.endswith("\t0.5"):
        (tree / "t.tsv").write_text(f"a.png\tok\n{row}\n", encoding="utf-8")  # a second text
    with pytest.raises(InputError, match="line 2"):
        read_texts("t.tsv", items)


def test_unusable_texts(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = collect(["in"]).items
    with pytest.raises(InputError, match="cannot be read"):
        read_texts("absent.tsv", items)
    with pytest.raises(InputError, match="3 pictures"):
        read_texts("one text for all", items)
    (tree / "t.tsv").write_text("other.png\tHi\n", encoding="utf-8")
    assert read_texts("t.tsv", items) == [None, None, None]
    assert "other.png is none of the pictures" in caplog.text
