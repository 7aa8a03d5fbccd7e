"""What must hold for any bytes, whoever thinks of them: `tests.fuzz.bundle` and `tests.fuzz.images`, and hypothesis."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.bundle import Bundle
from runtime.manifest import DIGEST, MANIFEST, sealed
from tests.odd_pictures import encoded, exif
from tests.runtime.helpers import draw_line
from textsr.errors import BundleError, InputError
from textsr.images import decode_image, image_size

SYMBOLS = "abc 文字"
KEPT = ("vqgan_encoder", "time_condition", "text_condition", "glyph_canvas", "unet_step", "vqgan_decoder")
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 1 << 16, 1 << 40, 10**4000, 0.5, -1e308, 1e-320, "", "x", "..", "../x",
    "/etc/passwd", "a\\b", "c:x", "\0", "\ud800", "x" * 5000, "bundle.json", ".", "weights.safetensors", "0" * 64,
    [], {}, [[]], [1, "B"], {"a": 1}, {"name": "x", "shape": [1], "dtype": "float32"}, ["a", ["b"]], "fp16", "pad",
    "rapidocr",
)  # fmt: skip
"""Values put where others belong."""
Choose = Callable[[int], int]
"""A number from 0 to below the given one, from whatever decides."""


class BundleTarget:
    """A bundle of small files in a folder of its own, to be damaged and opened."""

    def __init__(self, whole: Path, folder: Path) -> None:
        """Copies the bundle ``whole``, with few symbols and graphs, their files cut short, so that opening takes a
        millisecond."""
        self.folder = folder
        manifest = json.loads((whole / MANIFEST).read_text(encoding="utf-8"))
        manifest["preset"]["symbols"] = len(SYMBOLS) + 1
        manifest["preset"]["unet"]["painted_channels"] = 0  # glyphs are fitted by the numbers of textsr's alphabet
        manifest["preset"]["glyph"]["fitted"] = False
        manifest["alphabet"] = {"symbols": SYMBOLS, "folding": {"A": "a"}}
        manifest["parity"] = None
        manifest["graphs"] = {name: graph for name, graph in manifest["graphs"].items() if name in KEPT}
        used = {graph["file"] for graph in manifest["graphs"].values()}
        manifest["files"] = {name: "" for name in manifest["files"] if name in used or not name.endswith(".onnx")}
        folder.mkdir()
        self.files: dict[str, bytes] = {}
        for name in manifest["files"]:
            with (whole / name).open("rb") as stream:
                self.files[name] = stream.read(2000)
            manifest["files"][name] = _sha256(self.files[name])
        self.manifest = sealed(manifest)
        self.text = json.dumps(self.manifest, ensure_ascii=False).encode()
        self.restore()
        self.right = Bundle.open(folder)

    def restore(self) -> None:
        """All files as they were."""
        for name, data in {**self.files, MANIFEST: self.text}.items():
            (self.folder / name).write_bytes(data)

    def try_manifest(self, data: bytes) -> Bundle | None:
        """These bytes as bundle.json: the bundle that it was, or BundleError. Without a digest it may be another."""
        (self.folder / MANIFEST).write_bytes(data)
        opened = self._open()
        if opened is not None and DIGEST in opened.manifest:
            assert opened == self.right, "another bundle was opened without a word"
        return opened

    def try_edited(self, choose: Choose) -> Bundle | None:
        """A manifest with odd values in odd places, sealed: any bundle, or BundleError."""
        manifest = copy.deepcopy(self.manifest)
        for _ in range(1 + choose(3)):
            _edit(manifest, choose)
        try:
            text = json.dumps(sealed(manifest))
        except (TypeError, ValueError):  # keys that are no strings, numbers of too many digits
            return None
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")
        return self._open()

    def try_file(self, name: str, data: bytes) -> None:
        """These bytes as one of the other files: refused, unless they are the file's own."""
        path = self.folder / name
        path.write_bytes(data)
        try:
            opened = self._open()
            assert (opened is not None) == (data == self.files[name]), f"{name} was taken"
        finally:
            path.write_bytes(self.files[name])

    def _open(self) -> Bundle | None:
        try:
            return Bundle.open(self.folder)
        except BundleError:
            return None

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _edit(manifest: dict[str, Any], choose: Choose) -> None:
    """One value, somewhere, removed or replaced, or one added."""
    at: Any = manifest
    while True:
        keys: Sequence[Any] = list(at) if isinstance(at, dict) else range(len(at))
        if not keys:
            break
        key = keys[choose(len(keys))]
        if isinstance(at[key], dict | list) and choose(4):
            at = at[key]
            continue
        if choose(5) == 0:
            del at[key]
        else:
            at[key] = copy.deepcopy(ODD[choose(len(ODD))])
        return
    value = copy.deepcopy(ODD[choose(len(ODD))])
    if isinstance(at, dict):
        at[str(ODD[choose(len(ODD))])[:100]] = value
    else:
        at.append(value)


def whole_pictures() -> dict[str, bytes]:
    """A line as a file of every format that is read, TIFFs in every compression."""
    line = draw_line("Hi", 16, 40)
    found = {kind: encoded(line, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")}
    found["progressive JPEG"] = encoded(line, "JPEG", progressive=True)
    for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[how] = encoded(line, "TIFF", compression=how)
    found["palette"] = encoded(Image.fromarray(line).quantize(16), "PNG")
    found["16 bits"] = encoded(line[..., 0].astype(np.uint16) * 257, "PNG")
    found["EXIF"] = encoded(line, "JPEG", exif=exif(6))
    return found


def try_image(data: bytes) -> None:
    """These bytes as a picture's file: RGB (h, w, 3) uint8 of at least a pixel and of the size told before, or
    InputError."""
    try:
        found = decode_image(data)
    except InputError:
        with contextlib.suppress(InputError):
            image_size(data)
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert min(found.shape) >= 1
    assert image_size(data) == found.shape[:2]


def own_folder() -> Path:
    """Where a harness may write: in memory where the machine has such a place."""
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return place / f"textsr-fuzz-{os.getpid()}"
