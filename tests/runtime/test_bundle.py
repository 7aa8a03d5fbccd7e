"""Opening bundles: whole, damaged, tampered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import Bundle, shipped
from runtime.executors import open_executor
from runtime.manifest import FORMAT, sealed
from textsr.config import TINY
from textsr.device import Device
from textsr.errors import BundleError, DeviceError, EngineError, InputError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest as who builds a bundle would: sealed anew."""
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(sealed(manifest)), encoding="utf-8")


def test_a_whole_bundle(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert bundle.preset == TINY
    assert bundle.recognizer == "transocr"
    assert len(bundle.alphabet.symbols) == 6735
    assert bundle.samples_text
    assert bundle.graphs["unet_step"].inputs[0].name == "z_t"


def test_a_changed_file_is_named(bundle: Path) -> None:
    path = bundle / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.safetensors: SHA-256"):
        Bundle.open(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "unet_step.onnx").unlink()
    with pytest.raises(BundleError, match=r"unet_step\.onnx"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "", "a\\b", "c:x"])
def test_names_that_lead_out_are_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match=r"leads out|no file name"):
        Bundle.open(bundle)


def test_a_graph_whose_file_is_not_hashed_is_refused(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["files"].pop("unet_step.onnx"))
    with pytest.raises(BundleError, match="no SHA-256"):
        Bundle.open(bundle)


@pytest.mark.parametrize("key", ["format", "preset", "alphabet", "graphs", "files", "recognizer"])
def test_missing_keys_are_named(bundle: Path, key: str) -> None:
    edit(bundle, lambda manifest: manifest.pop(key))
    with pytest.raises(BundleError, match=key):
        Bundle.open(bundle)


def of_another_alphabet(manifest: dict[str, Any]) -> None:
    """Glyphs are fitted by numbers that mean other symbols."""
    manifest["preset"]["glyph"]["fitted"] = True
    manifest["alphabet"]["symbols"] = manifest["alphabet"]["symbols"][::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format=FORMAT + 1), f"format {FORMAT + 1}"),
        (lambda manifest: manifest.update(format=1), "format 1 .*anew"),
        (lambda manifest: manifest.update(recognizer="magic"), "magic"),
        (lambda manifest: manifest.update(files={}), "files"),
        (lambda manifest: manifest.update(graphs=[]), "graphs"),
        (lambda manifest: manifest["graphs"].pop("unet_step"), "unet_step"),
        (lambda manifest: manifest["graphs"].pop("glyph_canvas"), "lacks the graphs glyph_canvas"),
        (lambda manifest: manifest["graphs"].pop("painted_encoder"), "lacks the graphs painted_encoder"),
        (lambda manifest: manifest["graphs"]["unet_step"].pop("file"), "unet_step"),
        (lambda manifest: manifest["files"].update({"unet_step.onnx": "short"}), "64"),
        (lambda manifest: manifest["preset"].update(height="tall"), "preset"),
        (lambda manifest: manifest["preset"].update(colour=1), "colour"),
        (lambda manifest: manifest["preset"].pop("name"), "preset"),
        (lambda manifest: manifest["preset"]["unet"].pop("prior_channels"), "prior_channels"),
        (lambda manifest: manifest.update(preset=[1]), "preset"),
        (lambda manifest: manifest.update(alphabet={"symbols": "ab", "folding": {}}), "2 symbols"),
        (lambda manifest: manifest.update(alphabet=3), "alphabet"),
        (of_another_alphabet, "another one"),
    ],
)
def test_damaged_manifests(bundle: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle, verify=False)


def test_manifests_that_are_no_json(bundle: Path) -> None:
    for text in ("", "{", "[]", "\x00"):
        (bundle / "bundle.json").write_text(text, encoding="utf-8")
        with pytest.raises(BundleError, match=r"bundle\.json"):
            Bundle.open(bundle)


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle 'nowhere'"):
        Bundle.open("nowhere")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", shipped())
def test_shipped_bundles_are_whole(name: str) -> None:
    assert Bundle.open(name).preset.name == name


def test_devices() -> None:
    assert Device.parse("cuda:2") == Device("cuda", 2)
    assert str(Device.parse("cuda")) == "cuda:0"
    for name in ("gpu", "cuda:", "cuda:x", "CPU", ""):
        with pytest.raises(InputError, match="unknown device"):
            Device.parse(name)


def test_executors(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    executor = open_executor(opened, "cpu", threads=1)
    assert executor.name == "onnxruntime:cpu"
    with pytest.raises(EngineError, match="no graph 'nothing'"):
        executor.run("nothing", {})
    with pytest.raises(EngineError, match="tokens"):
        executor.run("text_condition", {"weights": 0})
    with pytest.raises(InputError, match="unknown executor"):
        open_executor(opened, "cpu", executor="abacus")
    (bundle / "text_condition.onnx").write_bytes(b"damaged after opening")
    with pytest.raises(BundleError, match=r"text_condition\.onnx: has changed since the bundle was opened"):
        open_executor(opened, "cpu", threads=1).run("text_condition", {"tokens": 0, "weights": 0})


def test_cuda_that_is_not_there_is_said(tiny_bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        open_executor(Bundle.open(tiny_bundle), "cuda")
