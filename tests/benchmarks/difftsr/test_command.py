"""``python -m benchmarks.difftsr`` on a few pictures, with random weights and with files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.difftsr import SMALL, DiffTSR
from benchmarks.difftsr.__main__ import main
from benchmarks.difftsr.lines import baseline_alphabet, from_network, open_reader, stretched, to_network, tokens_of
from textsr.alphabet import Alphabet
from textsr.errors import InputError

QUICK = ["--random", "--size", "small", "--steps", "2"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a", (20, 90)), ("b", (64, 64)), ("c", (1, 1))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A small DiffTSR.ckpt, transocr.pth and both lists of symbols."""
    model = DiffTSR.random(4, SMALL)
    assert model.transocr is not None
    nets = {"IDM_Unet": model.idm, "TDM_Decoder": model.tdm, "MoM_module": model.mom, "VAE_model": model.vae}
    paths = {name: tmp_path / name for name in ("DiffTSR.ckpt", "transocr.pth", "symbols.txt", "classes.txt")}
    torch.save({name: net.state_dict() for name, net in nets.items()}, paths["DiffTSR.ckpt"])
    torch.save({f"module.{k}": v for k, v in model.transocr.state_dict().items()}, paths["transocr.pth"])
    paths["symbols.txt"].write_text("\n".join(Alphabet.load().symbols), encoding="utf-8")
    paths["classes.txt"].write_text("".join(chr(0x4E00 + place) for place in range(94)), encoding="utf-8")
    return paths


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_random_weights(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([str(pictures), "-o", str(out), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "random weights of seed 0" in said
    assert "3 restored" in said
    assert "text kept" in said
    for name in "abc":
        assert pixels(out / f"{name}.png").shape == (32, 128, 3)
    assert main([str(pictures), "-o", str(tmp_path / "more"), *QUICK, "--batch-size", "3", "--text-diffusion"]) == 0
    assert "drawn anew" in capsys.readouterr().out
    difference = pixels(tmp_path / "more" / "a.png").astype(int) - pixels(out / "a.png")
    assert np.abs(difference).max() <= 1  # two late text steps redraw nothing; batches differ by rounding at most


def test_a_bad_picture_stops_no_other(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:300])
    (pictures / "empty.png").touch()
    out = tmp_path / "out"
    given = [str(pictures), str(tmp_path / "none.png")]
    assert main([*given, "-o", str(out), *QUICK, "--batch-size", "2"]) == 1
    captured = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]
    assert "2 restored" in captured.out
    assert "3 failed" in captured.out
    for name in ("b.png", "empty.png", "none.png"):
        assert name in captured.err


def test_texts_guide_the_baseline(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.tsv"
    texts.write_text("a.png\t中国银行\n", encoding="utf-8")
    assert main([str(pictures), "-o", str(tmp_path / "with"), *QUICK, "--text", str(texts)]) == 0
    assert "text '中国银行'" in capsys.readouterr().out
    assert main([str(pictures), "-o", str(tmp_path / "without"), *QUICK]) == 0
    same = [
        np.array_equal(pixels(tmp_path / "with" / f"{n}.png"), pixels(tmp_path / "without" / f"{n}.png")) for n in "abc"
    ]
    assert same == [False, True, True]


def test_published_files(
    pictures: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--size", "small", "--steps", "2", "--checkpoint", str(files["DiffTSR.ckpt"])]
    symbols = ["--alphabet", str(files["symbols.txt"])]
    reader = ["--transocr", str(files["transocr.pth"]), "--transocr-alphabet", str(files["classes.txt"])]
    assert main([str(pictures), "-o", str(tmp_path / "padding"), *weights]) == 0
    assert "nothing is random" in capsys.readouterr().out
    assert main([str(pictures), "-o", str(tmp_path / "read"), *weights, *symbols, *reader]) == 0
    net = DiffTSR.open(files["DiffTSR.ckpt"], files["transocr.pth"], SMALL)
    classes = ("\u00ad", *files["classes.txt"].read_text(encoding="utf-8"))
    line = stretched(pixels(pictures / "a.png"), SMALL.preset)
    (reading,) = open_reader(net, classes).read([line])
    assert f"a.png: text {reading.text!r}" in capsys.readouterr().out
    assert len(reading.text) <= 23
    for name, value in DiffTSR.random(4, SMALL).idm.state_dict().items():
        assert torch.equal(net.idm.state_dict()[name], value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--random", "--transocr", "x"], "--random makes all weights"),
        (["--checkpoint", "DiffTSR.ckpt", "--transocr", "x"], "go together"),
        (["--checkpoint", "DiffTSR.ckpt", "--text", "字"], "give --alphabet"),
        (["--random", "--steps", "1001"], "from 1 to 1000"),
        (["--random", "--batch-size", "0"], "--batch-size"),
        (["--random", "--alphabet", "classes.txt"], "holds 94 symbols"),
    ],
)
def test_misuse(
    extra: list[str], message: str, pictures: Path, files: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    extra = [str(files.get(word, word)) for word in extra]
    assert main([str(pictures / "a.png"), "-o", str(tmp_path / "out"), "--size", "small", *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wrong_checkpoint_fails(pictures: Path, files: dict[str, Path], tmp_path: Path) -> None:
    weights = ["--size", "small", "--checkpoint", str(files["transocr.pth"])]
    assert main([str(pictures), "-o", str(tmp_path / "out"), *weights]) == 1


def test_pictures_and_texts() -> None:
    preset = SMALL.preset
    line = stretched(np.full((7, 3, 3), 51, np.uint8), preset)
    batch = to_network([line, line])
    assert batch.shape == (2, 3, 32, 128)
    assert batch == pytest.approx(0.2)
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    assert np.array_equal(from_network(to_network([ramp])[0]), ramp)
    alphabet = baseline_alphabet(Alphabet.load().symbols, preset)
    tokens = tokens_of(["ABc", "國", "字" * 30, "\ue000"], alphabet, 24)
    assert tokens.shape == (4, 24)
    assert alphabet.decode(tokens[0]) == "abc"
    assert alphabet.decode(tokens[1]) == "国"
    assert alphabet.decode(tokens[2]) == "字" * 24
    assert set(tokens[3]) == {6735}
    with pytest.raises(InputError, match="without TransOCR"):
        open_reader(DiffTSR.random(0, SMALL, transocr=False), ["a"])
