"""Published files are read without running what they hold."""

from __future__ import annotations

import contextlib
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from textsr.checkpoint import read_published
from textsr.checkpoint.pickles import sha256
from textsr.errors import BundleError


class Runs:
    """Unpickling it calls a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def touch(path: str) -> None:
    Path(path).touch()


def save(path: Path, content: Any, form: str) -> None:
    """As `torch.save` writes today, as it wrote before 1.6, or as a bare pickle."""
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["alone", "beside weights", "inside"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_did_not_run(tmp_path: Path, form: str, place: str) -> None:
    ran, path = tmp_path / "ran", tmp_path / "evil.pth"
    bomb = Runs(exec, f"open({str(ran)!r}, 'w').close()")
    weights = {"weight": torch.zeros(2)}
    content: Any = {"alone": bomb, "beside weights": {**weights, "hook": bomb}, "inside": {"state_dict": [bomb]}}[place]
    save(path, content, form)
    named = "code of its own" if form == "pickle" else r"(builtins\.)?exec"
    with pytest.raises(BundleError, match=rf"evil\.pth is refused: loading it would run {named}"):
        read_published(path)
    assert not ran.exists()
    if form == "pickle":  # the file does what it says where it is trusted
        pickle.loads(path.read_bytes())
        assert ran.exists()


@pytest.mark.parametrize("function", ["os.system", "builtins.eval", "subprocess.Popen", "importlib.import_module"])
def test_functions_of_any_package_are_named_in_the_refusal(tmp_path: Path, function: str) -> None:
    module, name = function.rsplit(".", 1)
    path = tmp_path / "evil.pth"
    torch.save({"a": Runs(getattr(__import__(module), name), "x")}, path)
    with pytest.raises(BundleError, match=f"would run .*{name}"):
        read_published(path)


def foreign(name: str, tmp_path: Path) -> tuple[ModuleType, Path]:
    """A module of that name whose import leaves a trace, and the trace."""
    trace = tmp_path / f"{name}.imported"
    (tmp_path / f"{name}.py").write_text(
        f"open({str(trace)!r}, 'w').close()\nclass Callback:\n    pass\ndef build(*a):\n    raise RuntimeError\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        module = __import__(name)
    finally:
        sys.path.remove(str(tmp_path))
    return module, trace


@pytest.mark.parametrize(("name", "known"), [("pytorch_lightning", True), ("somebodys_project", False)])
def test_foreign_classes_are_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: bool
) -> None:
    module, trace = foreign(name, tmp_path)
    callback, path = module.Callback(), tmp_path / "lightning.ckpt"
    callback.best = 3
    weights = {"weight": torch.arange(3.0)}
    torch.save({"state_dict": weights, "callbacks": {module.Callback: callback}, "made": Runs(module.build, 1)}, path)
    trace.unlink()
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    if known:
        content = read_published(path)
        assert torch.equal(content["state_dict"]["weight"], weights["weight"])
    else:
        with pytest.raises(BundleError, match="somebodys_project"):
            read_published(path)
    assert name not in sys.modules
    assert not trace.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_state_dicts_come_back(tmp_path: Path, form: str) -> None:
    content = {"state_dict": {"weight": torch.arange(6.0).view(2, 3)}, "epoch": 3, "name": "x"}
    save(tmp_path / "a.pth", content, form)
    found = read_published(tmp_path / "a.pth")
    assert torch.equal(found["state_dict"]["weight"], content["state_dict"]["weight"])  # type: ignore[index]
    assert found["epoch"] == 3


def test_safetensors_come_back(tmp_path: Path) -> None:
    save_file({"weight": torch.arange(6.0)}, tmp_path / "a.safetensors")
    assert torch.equal(read_published(tmp_path / "a.safetensors")["weight"], torch.arange(6.0))


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(BundleError, match=r"list\.pth holds a list, not a state dict"):
        read_published(tmp_path / "list.pth")
    for name, content in (("empty.pth", b""), ("text.pth", b"hello"), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BundleError, match=f"{name} cannot be read"):
            read_published(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no tensors here")
    for path in (tmp_path / "other.zip", tmp_path / "absent.pth", tmp_path):
        with pytest.raises(BundleError, match="cannot be read"):
            read_published(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2000), value=st.integers(0, 255), cut=st.integers(0, 2000))
def test_damaged_files_raise_our_error_or_are_read(tmp_path: Path, place: int, value: int, cut: int) -> None:
    path = tmp_path / "whole.pth"
    torch.save({"weight": torch.arange(12.0), "bias": torch.zeros(3)}, path)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data[: len(data) - cut % len(data)] if cut % 2 else data)
    with contextlib.suppress(BundleError):  # nothing else may come out
        assert isinstance(read_published(path), Mapping)


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf")
    with pytest.raises(BundleError, match="cannot be read"):
        sha256(tmp_path / "absent")
