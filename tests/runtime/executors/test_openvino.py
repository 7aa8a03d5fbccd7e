"""The OpenVINO executor: equal to ONNX Runtime in fp32, near it in bf16, safe from threads, and quiet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed: extra [openvino]")

from runtime.bundle import Bundle
from runtime.executors import open_executor, openvino
from runtime.executors.onnxruntime import OrtExecutor
from runtime.executors.openvino import OpenVinoExecutor
from tests.runtime.executors.helpers import lines
from textsr.errors import BundleError, DeviceError, EngineError, InputError
from textsr.loop import restore

ROOT = Path(__file__).resolve().parents[3]
HAS_BF16 = "bf16" in openvino.multiplies_in(openvino.import_quietly().Core())
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor does not multiply in bfloat16")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def psnr(a: Any, b: Any) -> float:
    """Of images in [-1, 1], dB."""
    return float(-10 * np.log10(np.square(a.astype(float) - b.astype(float)).mean() / 4 + 1e-20))


@pytest.mark.parametrize("sampler", ["fixed", "categorical"])
def test_in_fp32_it_equals_onnx_runtime(bundle: Bundle, sampler: Any) -> None:
    """Texts and codes may not differ, sums are taken in another order: 1e-3 of a range of 2."""
    given = lines(bundle.preset, 2)
    with_openvino = OpenVinoExecutor(bundle, "cpu", 1, "fp32")
    assert with_openvino.name == "openvino:cpu:fp32"
    ours = restore(with_openvino, bundle.preset, given, steps=3, text_sampler=sampler)
    theirs = restore(OrtExecutor(bundle, "cpu", 1), bundle.preset, given, steps=3, text_sampler=sampler)
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_allclose(ours.image, theirs.image, atol=1e-3)


@needs_bf16
def test_in_bf16_it_is_near(bundle: Bundle) -> None:
    """40 dB is what is asked of half precision as well."""
    given = lines(bundle.preset, 2)
    near = OpenVinoExecutor(bundle, "cpu", 1)
    assert near.name == "openvino:cpu:bf16"
    ours = restore(near, bundle.preset, given, steps=2)
    exact = restore(OrtExecutor(bundle, "cpu", 1), bundle.preset, given, steps=2)
    assert 40 < psnr(ours.image, exact.image) < 90, "either it is wrong, or it is not bf16"
    np.testing.assert_array_equal(ours.tokens, exact.tokens)


def test_batches_of_any_size_and_results_that_stay(bundle: Bundle) -> None:
    executor = OpenVinoExecutor(bundle, "cpu", 1, "fp32")
    first = restore(executor, bundle.preset, lines(bundle.preset, 1), steps=1)
    kept = first.image.copy()
    for count in (3, 2):
        assert len(restore(executor, bundle.preset, lines(bundle.preset, count), steps=1).image) == count
    np.testing.assert_array_equal(first.image, kept)


def test_threads_get_what_one_gets(bundle: Bundle) -> None:
    executor = OpenVinoExecutor(bundle, "cpu", 1, "fp32")
    given = [lines(bundle.preset, 1 + place % 2) for place in range(12)]
    serial = [restore(executor, bundle.preset, one, steps=1).image for one in given]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: restore(executor, bundle.preset, one, steps=1).image, given))
    for one, other in zip(serial, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_it_refuses(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="OpenVINO runs on the CPU"):
        OpenVinoExecutor(bundle, "cuda")
    for precision in ("fp16", "int4"):
        with pytest.raises(InputError, match=precision):
            OpenVinoExecutor(bundle, "cpu", 1, precision)
    with pytest.raises(InputError, match="the executors openvino and torch"):
        open_executor(bundle, "cpu", executor="onnxruntime", precision="bf16")
    executor = open_executor(bundle, "cpu", executor="openvino", threads=1, precision="fp32")
    with pytest.raises(EngineError, match="no graph 'x'"):
        executor.run("x", {})
    with pytest.raises(EngineError, match="inputs missing or not its own: tokens, weights"):
        executor.run("text_condition", {})
    wrong: dict[str, Any] = {"tokens": np.zeros((1, 24, 1), np.int64), "weights": np.zeros((1, 24), np.float32)}
    with pytest.raises(EngineError, match="graph text_condition failed on openvino:cpu:fp32"):
        executor.run("text_condition", wrong)
    assert isinstance(executor, OpenVinoExecutor)
    executor.close()
    executor.close()
    with pytest.raises(EngineError, match="is closed"):
        executor.run("text_condition", wrong)


def test_a_processor_without_bf16(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        Core = type("Core", (), {"get_property": lambda *_: ["FP32", "INT8"]})
        get_version = staticmethod(lambda: "0")

    monkeypatch.setattr(openvino, "import_quietly", lambda: Old)
    assert OpenVinoExecutor(bundle).name == "openvino:cpu:fp32"
    with pytest.raises(InputError, match="does not multiply in bfloat16"):
        OpenVinoExecutor(bundle, "cpu", 1, "bf16")


def test_a_changed_file_is_noticed_at_the_first_use(bundle: Bundle, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    executor = OpenVinoExecutor(Bundle.open(copied), "cpu", 1, "fp32")
    with (copied / "text_condition.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError):
        executor.run("text_condition", {t.name: np.zeros(1) for t in bundle.graphs["text_condition"].inputs})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_told(bundle: Bundle) -> None:
    executor = OpenVinoExecutor(bundle, "cpu", 1, "fp32")
    child = os.fork()
    if child == 0:
        try:
            executor.run("text_condition", {})
        except EngineError as error:
            os._exit(7 if "after a fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_it_writes_nothing_and_reports_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """openvino's import would start its telemetry, which writes an identifier into the home folder."""
    code = (
        "import sys; from runtime.bundle import Bundle; from runtime.executors import open_executor;"
        "import numpy as np; bundle = Bundle.open(sys.argv[1]);"
        "executor = open_executor(bundle, 'cpu', executor='openvino', precision='fp32', threads=1);"
        "given = {'tokens': np.zeros((1, 24), np.int64), 'weights': np.ones((1, 24), np.float32)};"
        "executor.run('text_condition', given);"
        "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tiny_bundle)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    assert list(tmp_path.iterdir()) == []
