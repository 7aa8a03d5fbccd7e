"""``python -m runtime.doctor``: the self-test's judgement, what is told of ``auto``, the JSON."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Restorer
from runtime.bundle import Bundle
from runtime.doctor import TEXT, as_json, as_text, diagnose, diagnosis, draw_line
from runtime.doctor.__main__ import main
from runtime.doctor.diagnosis import Auto, Considered, ask_auto, places
from runtime.doctor.gpu import Gpu, GpuFound
from runtime.doctor.line import HEIGHT, IDENTICAL_DB, Trial, blank, psnr, try_executor
from runtime.executors import ON_CUDA, Attempt, Choice, choice
from runtime.executors.onnxruntime import OrtExecutor
from tests.runtime.doctor_schema import SCHEMA, check
from tests.runtime.executors.helpers import open_fake
from tests.runtime.helpers import StubExecutor, stub_bundle
from textsr.device import Device
from textsr.errors import DeviceError, EngineError

H100 = GpuFound((Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0)),), "580.95.05", "13.0", runtimes=("13.0.96",))


class Changed(StubExecutor):
    """The stub with another image: ``change`` of the first pass's or, with ``late``, of the second's only."""

    def __init__(self, change: Any, late: bool = False, name: str = "stub") -> None:
        super().__init__()
        self.change, self.late, self.name, self.closed, self.images = change, late, name, 0, 0

    def vqgan_decoder(self, z_0: Any) -> dict[str, Any]:
        found = super().vqgan_decoder(z_0)
        self.images += 1
        return found if self.late and self.images < 2 else {**found, "image": self.change(found["image"])}

    def close(self) -> None:
        self.closed += 1


def trial(executor: Any, reference: Any = None, **options: Any) -> Trial:
    def opened() -> Restorer:
        if isinstance(executor, Exception):
            raise executor
        return Restorer(stub_bundle(), executor, None)

    return try_executor("some", "cuda:0", opened, draw_line(), 1, reference, **options)


@pytest.fixture(scope="module")
def expected() -> Any:
    return trial(StubExecutor(), is_reference=True).images[0]


def test_the_line_is_a_line_and_always_the_same() -> None:
    line = draw_line()
    assert line.shape[0] == HEIGHT
    assert 6 * HEIGHT < line.shape[1] < 12 * HEIGHT
    assert line.dtype == np.uint8
    assert (line == draw_line()).all()
    ink = (line.mean(axis=2).min(axis=0) < 140).astype(int)
    strokes = int((np.diff(ink, prepend=0) == 1).sum())
    assert strokes >= len(TEXT.replace(" ", ""))
    assert line.max() > 220
    assert line.min() < 90


def test_psnr_and_blank() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(image, image) == IDENTICAL_DB
    assert psnr(image, image + 1) == pytest.approx(20 * np.log10(255))
    assert blank(image)
    assert blank(np.zeros((2, 2, 3), np.uint8))
    assert not blank(draw_line())


def test_a_trial_that_passes(expected: Any) -> None:
    executor = Changed(lambda image: image + 0.001)
    found = trial(executor, expected)
    assert (found.name, found.passed, found.reason, found.reference) == ("stub", True, "", False)
    assert found.psnr is not None
    assert 40 < found.psnr <= IDENTICAL_DB
    assert (executor.images, executor.closed) == (2, 1)
    assert None not in (found.opened, found.first, found.seconds)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: image * np.nan, "not finite"),
        (lambda image: image * 0 - 1, "blank"),
        (lambda image: -image, "40 are needed"),
    ],
)
def test_what_a_wrong_result_is_called(change: Any, told: str, late: bool, expected: Any) -> None:
    """Also where only the second pass, the captured one, is wrong."""
    found = trial(Changed(change, late), expected)
    assert not found.passed
    assert told in found.reason


def test_without_a_reference_nothing_else_passes() -> None:
    found = trial(StubExecutor())
    assert not found.passed
    assert "no reference" in found.reason
    assert trial(StubExecutor(), is_reference=True).passed


@pytest.mark.parametrize("error", [EngineError("no engine"), OSError("libcudnn.so.9"), RuntimeError("out of memory")])
def test_what_fails_to_open_or_run_is_the_reason(error: Exception, expected: Any) -> None:
    def fail(image: Any) -> Any:
        raise error

    opening, running = trial(error, expected), trial(Changed(fail), expected)
    assert (opening.name, opening.opened, opening.passed) == ("", None, False)
    assert (running.name, running.seconds, running.passed) == ("stub", None, False)
    assert str(error) in opening.reason
    assert running.reason == opening.reason
    assert running.opened is not None


def test_a_programming_error_is_no_finding(expected: Any) -> None:
    with pytest.raises(KeyError):
        trial(KeyError("a name that is misspelt"), expected)


def test_a_captured_pass_on_the_fake_tensorrt_is_judged() -> None:
    bundle = Bundle.open("compact", verify=False)
    cpu = OrtExecutor(bundle, "cpu", threads=1)
    executor, cuda = open_fake(bundle, OrtExecutor(bundle, "cpu", threads=1).run)
    line = draw_line()
    base = try_executor("onnxruntime", "cpu", lambda: Restorer(bundle, cpu, None), line, 1, None, is_reference=True)
    found = try_executor("tensorrt", "cuda:0", lambda: Restorer(bundle, executor, None), line, 1, base.images[0])
    assert found.passed, found.reason
    assert found.psnr == IDENTICAL_DB
    assert "cudaGraphLaunch" in cuda.calls
    with pytest.raises(EngineError, match="closed"):
        executor.run("unet_step", {})


def machine(monkeypatch: pytest.MonkeyPatch, gpu: GpuFound, outcomes: dict[tuple[str, str], Any]) -> list[Any]:
    """A machine with ``gpu`` where executors are what ``outcomes`` says, an error or an executor; what was opened."""
    opened: list[Any] = []

    def open_executor(bundle: Bundle, device: str, *, executor: str, precision: str = "auto", **_: Any) -> Any:
        outcome = outcomes.get((executor, device), EngineError(f"{executor} is not installed"))
        opened.append((executor, device, precision))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(diagnosis, "find_gpus", lambda: gpu)
    monkeypatch.setattr(choice, "no_gpu", lambda: gpu.problem)
    monkeypatch.setattr(choice, "open_executor", open_executor)
    monkeypatch.setattr(choice, "prove", lambda executor, bundle: None)
    monkeypatch.setattr(diagnosis, "open_executor", open_executor)
    found, _ = diagnosis.find_bundle("compact")
    monkeypatch.setattr(diagnosis, "find_bundle", lambda path: (found, stub_bundle()))
    return opened


def same(image: Any) -> Any:
    return image


def test_on_a_gpu_everything_that_opens_is_tested_and_auto_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {
        ("tensorrt", "cuda:0"): EngineError("tensorrt and tensorrt-rtx not installed"),
        ("onnxruntime", "cuda:0"): Changed(same, name="onnxruntime:cuda:0:fp16"),
        ("onnxruntime", "cpu"): Changed(same, name="onnxruntime:cpu"),
        ("torch", "cuda:0"): Changed(lambda image: image * np.nan, name="torch:cuda:0:fp16"),
        ("torch", "cpu"): Changed(same, name="torch:cpu"),
        ("openvino", "cpu"): Changed(same, name="openvino:cpu:bf16"),
    }
    opened = machine(monkeypatch, H100, outcomes)
    found = diagnose(steps=1)
    assert found.ok
    assert found.auto == Auto(
        "onnxruntime:cuda:0:fp16",
        (
            Considered("tensorrt", "cuda:0", False, "tensorrt and tensorrt-rtx not installed", True),
            Considered("onnxruntime", "cuda:0", True, "", True),
            Considered("torch", "cuda:0", False, "not tried: onnxruntime on cuda:0 comes first", False),
            Considered("onnxruntime", "cpu", False, "not tried: onnxruntime on cuda:0 comes first", False),
            Considered("torch", "cpu", False, "not tried: on the CPU auto takes ONNX Runtime alone", False),
            Considered("openvino", "cpu", False, "not tried: on the CPU auto takes ONNX Runtime alone", False),
        ),
    )
    assert [(trial.executor, trial.device, trial.passed) for trial in found.trials] == [
        ("onnxruntime", "cpu", True),
        ("tensorrt", "cuda:0", False),
        ("onnxruntime", "cuda:0", True),
        ("torch", "cuda:0", False),
        ("torch", "cpu", True),
        ("openvino", "cpu", True),
    ]
    assert [trial.reference for trial in found.trials] == [True, False, False, False, False, False]
    assert opened.count(("tensorrt", "cuda:0", "auto")) == 1, "what auto could not open is not opened again"
    assert ("onnxruntime", "cpu", "fp32") in opened
    assert ("openvino", "cpu", "auto") in opened, "in fp32 nobody would use it"
    assert ("onnxruntime", "cuda:0", "auto") in opened
    text = as_text(found)
    assert "cuda:0 NVIDIA H100 80GB HBM3, compute capability 9.0" in text
    assert "driver 580.95.05, offers CUDA 13.0, CUDA runtime 13.0.96" in text
    assert "onnxruntime:cuda:0:fp16  passed" in text
    assert "torch:cuda:0:fp16        failed" in text
    check(json.loads(json.dumps(as_json(found))), SCHEMA)


@pytest.mark.parametrize(("seconds", "told"), [(0.5, True), (0.95, False), (2.0, False)])
def test_an_executor_that_auto_does_not_take_is_named_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: float, told: bool
) -> None:
    outcomes = {
        ("onnxruntime", "cpu"): Changed(same, name="onnxruntime:cpu"),
        ("openvino", "cpu"): Changed(same, name="openvino:cpu:bf16"),
    }
    machine(monkeypatch, GpuFound(problem="no NVIDIA driver"), outcomes)
    found = diagnose(steps=1)
    took = {"onnxruntime:cpu": 1.0, "openvino:cpu:bf16": seconds}
    trials = tuple(replace(trial, seconds=took.get(trial.name, trial.seconds)) for trial in found.trials)
    advice = as_text(replace(found, trials=trials)).partition("advice")[2]
    assert ("openvino:cpu:bf16 passed in 50% of auto's time: ask for it by --executor openvino" in advice) == told
    failed = tuple(replace(trial, passed=trial.name == "onnxruntime:cpu") for trial in trials)
    assert "--executor" not in as_text(replace(found, trials=failed)).partition("advice")[2]


def test_the_exit_status_is_that_of_the_self_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = GpuFound(problem="no NVIDIA driver")
    black = Changed(lambda image: image * 0 - 1, name="onnxruntime:cpu")
    machine(monkeypatch, none, {("onnxruntime", "cpu"): black})
    assert main(["--steps", "1"]) == 1
    assert "failed" in capsys.readouterr().out
    assert main(["--no-self-test"]) == 0
    assert "left out" in capsys.readouterr().out
    machine(monkeypatch, none, {})
    assert main(["--no-self-test", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["trials"]) == (None, [])
    assert found["auto"]["problem"] == "onnxruntime is not installed"
    assert found["auto"]["problem"] in found["warnings"]


def test_when_only_torch_works_it_has_nothing_to_be_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, GpuFound(problem="none"), {("torch", "cpu"): Changed(same)})
    found = diagnose(steps=1)
    assert not found.ok
    assert "no reference" in {trial.executor: trial.reason for trial in found.trials}["torch"]


def test_the_reference_alone_is_not_enough_where_cuda_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: dict[tuple[str, str], Any] = {("onnxruntime", "cpu"): Changed(same, name="onnxruntime:cpu")}
    machine(monkeypatch, H100, outcomes)
    found = diagnose(device="cuda", steps=1)
    assert [trial.passed for trial in found.trials] == [True, False, False, False]
    assert not found.ok
    machine(monkeypatch, H100, {**outcomes, ("torch", "cuda:0"): Changed(same, name="torch:cuda:0:fp16")})
    assert diagnose(device="cuda", steps=1).ok


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--device", "tpu"], ["--steps", "0"], ["--steps", "19"]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("runtime.doctor: ")
    with pytest.raises(SystemExit):
        main(["--nonsense"])


def test_a_bundle_that_is_not_there_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(tmp_path)]) == 1
    assert "so it is not a bundle" in capsys.readouterr().out


def test_what_is_chosen_from_and_tested_on_each_device() -> None:
    none = GpuFound(problem="none")
    reference, cpu = ("onnxruntime", "cpu"), [("torch", "cpu"), ("openvino", "cpu")]
    assert places(Device("auto"), none) == places(Device("cpu"), H100) == [reference, *cpu]
    assert places(Device("auto"), H100) == [reference, *((name, "cuda:0") for name in ON_CUDA), *cpu]
    assert places(Device("cuda", 1), none) == [reference, *((name, "cuda:1") for name in ON_CUDA)]


def test_auto_asked_for_cuda_says_nothing_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Choice("tensorrt:cuda:1:fp16", (Attempt("tensorrt", "cuda:1"),))
    monkeypatch.setattr(diagnosis, "choose_executor", lambda bundle, device: (StubExecutor(), taken))
    assert {at.device for at in ask_auto(stub_bundle(), "cuda:1").considered} == {"cuda:1"}

    def fail(bundle: Bundle, device: str) -> Any:
        raise DeviceError("device cuda: nothing works")

    monkeypatch.setattr(diagnosis, "choose_executor", fail)
    assert ask_auto(stub_bundle(), "cuda") == Auto("", (), "device cuda: nothing works")


def test_a_restorer_names_what_auto_took_and_warns_of_the_gpu_it_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a silent fallback."""
    machine(monkeypatch, H100, {("onnxruntime", "cpu"): Changed(same, name="onnxruntime:cpu")})
    with caplog.at_level(logging.WARNING):
        restorer = Restorer.open(stub_bundle(), executor="auto", read_text=False)
    assert restorer([draw_line()], [TEXT], steps=1)[0].executor == "onnxruntime:cpu"
    (record,) = caplog.records
    for name in ON_CUDA:
        assert f"{name} on cuda:0: {name} is not installed" in record.message
    with pytest.raises(DeviceError, match="tensorrt is not installed; onnxruntime"):
        Restorer.open(stub_bundle(), "cuda", executor="auto", read_text=False)


def test_what_this_machine_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """No stand-ins: the shipped bundle on the CPU, torch and OpenVINO where they are installed."""
    assert main(["--device", "cpu", "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    check(found, SCHEMA)
    assert found["format"] == 1
    assert found["bundle"]["verified"]
    assert found["auto"]["name"] == "onnxruntime:cpu"
    assert found["trials"][0]["passed"]
    assert found["trials"][0]["reference"]
    for trial, least in zip(found["trials"][1:], (60, 40), strict=True):
        assert trial["passed"] == (trial["opened"] is not None)
        if trial["passed"]:
            assert trial["psnr"] > least
