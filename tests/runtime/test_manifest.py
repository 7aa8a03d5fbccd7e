"""bundle.json that is damaged, hostile or of another time; files that are not where they should be."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle import SHIPPED, Bundle
from runtime.executors import open_executor
from runtime.manifest import FORMAT, MAX_BYTES, read_manifest, sealed
from tests.fuzz.targets import BundleTarget
from textsr.errors import BundleError, EngineError


@pytest.fixture
def target(tiny_bundle: Path, tmp_path: Path) -> BundleTarget:
    """A small bundle to damage."""
    return BundleTarget(tiny_bundle, tmp_path / "bundle")


@pytest.fixture(scope="module")
def kept(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleTarget:
    """One for many examples, each of which leaves its files whole but for bundle.json."""
    return BundleTarget(tiny_bundle, tmp_path_factory.mktemp("fuzz") / "bundle")


def write(target: BundleTarget, change: Callable[[dict[str, Any]], object], *, seal: bool = True) -> None:
    manifest = json.loads(target.text)
    change(manifest)
    text = json.dumps(sealed(manifest) if seal else manifest)
    (target.folder / "bundle.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", [path.name for path in SHIPPED.iterdir()])
def test_shipped_bundles_have_a_digest(name: str) -> None:
    assert sealed(read_manifest(SHIPPED / name / "bundle.json")) == Bundle.open(name, verify=False).manifest


@pytest.mark.parametrize("name", [path.name for path in SHIPPED.iterdir()])
def test_shipped_weights_lie_where_their_graphs_look_for_them(name: str) -> None:
    """Graphs name places in the file: other metadata before the tensors moves them, and hashes would not tell."""
    onnx = pytest.importorskip("onnx")
    folder = SHIPPED / name
    content = (folder / "weights.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    spans = {key: value["data_offsets"] for key, value in header.items() if key != "__metadata__"}
    places = {8 + size + first: (key, last - first) for key, (first, last) in spans.items()}
    for path in folder.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            told = {entry.key: entry.value for entry in tensor.external_data}
            if told:
                assert places[int(told["offset"])] == (tensor.name, int(told["length"])), path.name


def test_a_flipped_byte_is_told_wherever_it_is(target: BundleTarget) -> None:
    path = target.folder / "bundle.json"
    for place in range(0, len(target.text), 17):
        changed = bytearray(target.text)
        changed[place] ^= 1 << (place % 7)
        path.write_bytes(changed)
        with contextlib.suppress(BundleError):  # else it was white space, or a letter's other spelling
            assert read_manifest(path) == target.manifest
    target.restore()
    for name, data in target.files.items():
        for place in (0, len(data) // 2, len(data) - 1):
            target.try_file(name, data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe{}", "as JSON"),
        (b"\xef\xbb\xbf{}", "as JSON"),
        (b"[" * 100_000, "as JSON"),
        (b'{"a":' * 100_000, "as JSON"),
        (b'{"format": ' + b"9" * 5000 + b"}", "as JSON"),
        (b'{"format": 3, "format": 3}', "a key twice"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": 1e999}', "1e999"),
        (b'{"a": "' + b"x" * MAX_BYTES + b'"}', f"more than {MAX_BYTES} bytes"),
        (b'"text"', "no JSON object"),
        (b"{}", "format None"),
        (b'{"format": true}', "format True"),
        (b'{"format": "' + b"2" * 1000 + b'"}', r"format '2{76}\.\.\. is not known"),
        (b'{"format": %d}' % (FORMAT + 1), f"format {FORMAT + 1} .* take a newer textsr"),
        (b'{"format": %d}' % (FORMAT - 1), f"format {FORMAT - 1} .* build the bundle anew"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=message) as error:
        Bundle.open(tmp_path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(extra=1), f"'extra', which format {FORMAT} does not know"),
        (lambda m: m.update(provenance=[1]), "provenance"),
        (lambda m: m.update(recognizer=["rapidocr"]), "recognizer"),
        (lambda m: m["preset"].update(height=1 << 20), "beyond"),
        (lambda m: m["preset"].update(height=8192), "up to 4096"),
        (lambda m: m["preset"].update(height=-4), "up to 4096"),
        (lambda m: m["preset"].update(height=True), "no int"),
        (lambda m: m["preset"].update(fit="squeeze"), "none of stretch, pad"),
        (lambda m: m["preset"]["unet"].update(channel_mult=[1, "2"]), "no int"),
        (lambda m: m["preset"]["unet"].update(channel_mult="12"), "no list"),
        (lambda m: m["preset"]["tdm"].update(axial_shape=[6]), "2 entries"),
        (lambda m: m["preset"]["schedule"].update(steps=1), "2 steps"),
        (lambda m: m["preset"]["schedule"].update(kappa=0), "preset cannot be read"),
        (lambda m: m["preset"]["schedule"].update(end=-1), "schedule"),
        (lambda m: m["graphs"]["unet_step"].update(inputs=[{"name": 1, "shape": [], "dtype": ""}]), "unet_step"),
        (lambda m: m["graphs"]["unet_step"].update(inputs=[{"name": "a", "shape": "12", "dtype": ""}]), "unet_step"),
        (lambda m: m["graphs"].update(unet_step=None), "unet_step"),
        (lambda m: m["graphs"]["unet_step"].update(file=["a"]), "no file name"),
        (lambda m: m["graphs"]["unet_step"].update(file="bundle.json"), "no SHA-256"),
        (lambda m: m["files"].update({"unet_step.onnx": "g" * 64}), "64 hexadecimal"),
        (lambda m: m["files"].update({".": "0" * 64}), "this is no file"),
        (lambda m: m["files"].update({"\ud800": "0" * 64}), "no file name"),
        (lambda m: m["files"].update({"a\nb": "0" * 64}), "no file name"),
        (lambda m: m["files"].update({"x" * 300: "0" * 64}), "cannot be read"),
        (lambda m: m["alphabet"].update(folding={"A": ["a"]}), "alphabet"),
        (lambda m: m["alphabet"].update(symbols=[["a"]]), "alphabet"),
    ],
)
def test_sealed_nonsense(target: BundleTarget, change: Callable[[dict[str, Any]], object], message: str) -> None:
    write(target, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(target.folder)


def test_a_changed_manifest_is_told_and_one_without_a_digest_is_not(
    target: BundleTarget, caplog: pytest.LogCaptureFixture
) -> None:
    write(target, lambda m: m["preset"]["schedule"].update(kappa=1.5), seal=False)
    with pytest.raises(BundleError, match="its digest says"):
        Bundle.open(target.folder)
    write(target, lambda m: m.pop("digest"), seal=False)
    with caplog.at_level("INFO"):
        assert Bundle.open(target.folder).preset == target.right.preset
    assert "has no digest" in caplog.text
    (target.folder / "bundle.json").write_text(json.dumps(target.manifest, sort_keys=True, indent=9))
    assert Bundle.open(target.folder) == target.right


@pytest.mark.parametrize("leads", ["outside", "inside", "nowhere", "round"])
def test_symbolic_links(target: BundleTarget, tmp_path: Path, leads: str) -> None:
    path = target.folder / "weights.safetensors"
    outside = tmp_path / "outside"
    shutil.move(path, outside if leads == "outside" else target.folder / "elsewhere")
    places = {"outside": str(outside), "inside": "elsewhere", "nowhere": "nothing", "round": "weights.safetensors"}
    path.symlink_to(places[leads])
    if leads == "inside":
        assert Bundle.open(target.folder) == target.right
        return
    with pytest.raises(BundleError, match=r"weights\.safetensors: " + ("is a symb" if leads == "outside" else "named")):
        Bundle.open(target.folder)


def test_a_bundle_may_be_reached_by_a_link_and_have_hard_links(target: BundleTarget, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(target.folder)
    os.link(target.folder / "weights.safetensors", tmp_path / "second name")
    assert Bundle.open(tmp_path / "link") == target.right


def test_no_pipe_is_waited_for(target: BundleTarget, tmp_path: Path) -> None:
    (target.folder / "weights.safetensors").unlink()
    os.mkfifo(target.folder / "weights.safetensors")
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "bundle.json")
    said: list[str] = []

    def read() -> None:
        for folder in (target.folder, tmp_path / "other", tmp_path / ("x" * 300), tmp_path / "a\0b"):
            with pytest.raises(BundleError) as error:
                Bundle.open(folder)
            said.append(str(error.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert "this is no file" in said[0]
    assert [message for message in said if "Traceback" in message] == []
    assert len(said) == 4


def test_a_file_that_is_replaced_after_opening_is_not_used(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    executor = open_executor(Bundle.open(folder), "cpu", threads=1)
    other = tmp_path / "new"
    shutil.copy(folder / "weights.safetensors", other)
    other.replace(folder / "weights.safetensors")  # the same bytes even: nobody has looked
    with pytest.raises(BundleError, match=r"weights\.safetensors: has changed since"):
        executor.run("text_condition", {"tokens": 0, "weights": 0})
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors: was there"):
        executor.run("text_condition", {"tokens": 0, "weights": 0})


@pytest.mark.parametrize("where", ["../outside", "/etc/passwd", "link", "beyond"])
def test_weights_of_a_graph_that_lie_elsewhere_are_not_read(tiny_bundle: Path, tmp_path: Path, where: str) -> None:
    """A bundle whose author sealed it so: hashes hold, ONNX Runtime refuses the graph."""
    onnx = pytest.importorskip("onnx")
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    shutil.copy(folder / "weights.safetensors", tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "outside")
    model = onnx.load(folder / "text_condition.onnx", load_external_data=False)
    entries = {entry.key: entry for entry in next(t for t in model.graph.initializer if t.external_data).external_data}
    entries["location" if where != "beyond" else "offset"].value = where if where != "beyond" else str(1 << 40)
    (folder / "text_condition.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    from runtime.bundle import file_sha256

    manifest["files"]["text_condition.onnx"] = file_sha256(folder / "text_condition.onnx")
    (folder / "bundle.json").write_text(json.dumps(sealed(manifest)), encoding="utf-8")
    with pytest.raises(EngineError, match=r"text_condition\.onnx: ONNX Runtime .* cannot load"):
        open_executor(Bundle.open(folder), "cpu", threads=1).run("text_condition", {"tokens": 0, "weights": 0})


FUZZED = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), database=None)


@FUZZED
@given(st.binary(max_size=300), st.integers(0, 10**5), st.integers(0, 300))
def test_any_bytes_in_bundle_json(kept: BundleTarget, data: bytes, place: int, removed: int) -> None:
    place %= len(kept.text)
    kept.try_manifest(kept.text[:place] + data + kept.text[place + removed :])


@FUZZED
@given(st.data())
def test_any_sealed_nonsense(kept: BundleTarget, data: st.DataObject) -> None:
    kept.try_edited(lambda below: data.draw(st.integers(0, below - 1)))
