"""The reference sampler against a plain ResShift sampler written from its equations, and its command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from runtime import Gate, Restorer, Split
from tests.runtime.helpers import draw_line, stub_bundle
from textsr import config
from textsr.alphabet import Alphabet
from textsr.batch import NO_READER, NO_TEXT
from textsr.checkpoint import load_model, save_model
from textsr.config import PAPER, SCHEDULES, TINY, Preset
from textsr.errors import BundleError, DeviceError, InputError
from textsr.fit import fit_line
from textsr.graphs import Model, graphs
from textsr.images import load_image
from textsr.linetext import LineText
from textsr.loop import Draws, TextSampler
from textsr.networks.unet import UNet
from textsr.noise import image_key
from textsr.reference import Reference, choose_device, choose_preset
from textsr.reference.__main__ import main
from textsr.reference.sampler import Weights
from textsr.torch_executor import TorchExecutor

SMALL = replace(  # the paper's architecture
    PAPER,
    name="small",
    height=64,
    width=128,
    vqgan=replace(PAPER.vqgan, ch=8, norm_groups=4, codes=512),
    unet=replace(
        PAPER.unet,
        model_channels=16,
        swin_embed_dim=32,
        swin_head_dim=8,
        norm_groups=4,
        context_dim=16,
        context_head_dim=8,
    ),
    mom=replace(TINY.mom, latent_scale=0.18215),
    tdm=TINY.tdm,
    transocr=TINY.transocr,
)
SYMBOLS = "".join(chr(code) for code in range(33, 128))
"""For the 97 classes of the small recogniser."""
KAPPA, END, POWER = 2.0, 0.99, 0.3
WEIGHTS: tuple[Weights, Weights] = ("ocr", "one")
LEAST = {18: 0.04, 15: 0.04, 4: 0.2}
"""min_noise by T."""


class Watching(TorchExecutor):
    """Keeps the latents that are decoded."""

    z_0: Tensor

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if graph == "vqgan_decoder":
            self.z_0 = inputs["z_0"]
        return super().run(graph, inputs)


def filled(preset: Preset, seed: int = 0, *, trained_text: bool = False) -> Model:
    """A model whose every parameter matters, but for the text blocks' zero output where they are new."""
    model = load_model(None, preset, seed)
    assert isinstance(model, Model)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if trained_text or not (".text_blocks." in name and ".proj_out." in name):
                deviation = 0.1 / max(100, parameter[0].numel()) ** 0.5
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=deviation)
    return model


def opened(model: Model, preset: Preset) -> tuple[Reference, Watching]:
    executor = Watching(graphs(model))
    return Reference(executor, preset, Alphabet.load(), None), executor


@torch.inference_mode()
def plain_resshift(model: Model, preset: Preset, lines: list[NDArray[np.uint8]], seed: int) -> Tensor:
    """ResShift's sampler, by a UNet that knows of no text: z_0 before it is quantised and decoded."""
    total = preset.schedule.steps
    least = LEAST[total]
    first = min(least / KAPPA, least)
    sqrt_eta = np.array([first * (END / first) ** ((i / (total - 1)) ** POWER) for i in range(total)])
    eta = sqrt_eta**2
    earlier = np.concatenate([[0.0], eta[:-1]])
    variance = KAPPA**2 * earlier / eta * (eta - earlier)

    def at(table: NDArray[np.float64], step: int) -> Tensor:
        return torch.tensor(table[step], dtype=torch.float32)

    unet = UNet(replace(preset.unet, context_dim=None)).eval()
    unet.load_state_dict({k: v for k, v in model.unet.state_dict().items() if not k.startswith("text_blocks.")})
    draws = Draws(seed, [image_key(line) for line in lines], [0] * len(lines))
    lq = torch.stack([torch.from_numpy(fit_line(line, preset).lq).permute(2, 0, 1) for line in lines])
    z_y = model.vqgan.encode(F.interpolate(lq, scale_factor=4, mode="bicubic", align_corners=False))
    shape = tuple(z_y.shape[1:])
    z = z_y + at(KAPPA * sqrt_eta, total - 1) * torch.from_numpy(draws.normal(0, shape))
    for draw, step in enumerate(reversed(range(total)), 1):
        noise = torch.from_numpy(draws.normal(draw, shape))
        z0_hat = unet(z / at(np.sqrt(eta * KAPPA**2 + 1), step), torch.tensor([step]), lq)
        mean = at(earlier / eta, step) * z + at((eta - earlier) / eta, step) * z0_hat
        z = mean + at(np.sqrt(variance), step) * noise if step else mean
    return z


def lines() -> list[NDArray[np.uint8]]:
    """The second one's enlargement leaves [-1, 1]."""
    return [draw_line(), np.random.default_rng(0).integers(0, 2, (16, 32, 3), np.uint8) * np.uint8(255)]


@torch.inference_mode()
def check_plain(preset: Preset, model: Model, images: list[NDArray[np.uint8]]) -> None:
    reference, executor = opened(model, preset)
    results = reference(images, [""] * len(images), seed=5, weights="one")
    z_0 = plain_resshift(model, preset, images, 5)
    assert (executor.z_0 - z_0).abs().max() <= 1e-4 * z_0.std()
    codes = model.vqgan.quantize(z_0)[1]
    flipped = codes != model.vqgan.quantize(executor.z_0)[1]  # latents on the border of two codes may round either way
    assert flipped.float().mean() <= 1e-3
    image = model.vqgan.decode(executor.z_0 if flipped.any() else z_0).clamp(-1, 1)
    raw = torch.from_numpy(np.stack([result.raw for result in results])).permute(0, 3, 1, 2)
    assert (raw - image).abs().max() <= 1e-5
    assert image.std() > 0.01


@pytest.mark.parametrize("total", list(SCHEDULES))
def test_without_text_it_is_plain_resshift(total: int) -> None:
    preset = replace(SMALL, schedule=SCHEDULES[total])
    check_plain(preset, filled(preset), lines())


@pytest.mark.slow
@pytest.mark.parametrize("total", [4, 15])
def test_without_text_it_is_plain_resshift_at_the_papers_size(total: int) -> None:
    """All 15 steps, which are most of the work, on a quarter of a line and with a small autoencoder."""
    preset = replace(PAPER, schedule=SCHEDULES[total], tdm=TINY.tdm, transocr=None)
    if total == 15:
        preset = replace(preset, height=64, width=256, vqgan=SMALL.vqgan)
    check_plain(preset, filled(preset), lines()[:1])


@pytest.mark.parametrize("sampler", ["fixed", "categorical"])
def test_new_text_blocks_ignore_the_text_and_trained_ones_do_not(sampler: TextSampler) -> None:
    """The categorical sampler draws its tokens from the same uniforms, so only the text blocks tell of them."""
    texts = ["Hello 42", "北京", ""]
    new, trained = (opened(filled(SMALL, trained_text=yes), SMALL)[0] for yes in (False, True))
    image = lines()[0]

    def raws(reference: Reference) -> list[NDArray[np.float32]]:
        return [reference([image], [text], steps=3, weights="one", text_sampler=sampler)[0].raw for text in texts]

    first, *others = raws(new)
    assert all((first == other).all() for other in others)
    first, *others = raws(trained)
    assert all((first != other).any() for other in others)


def test_confidences_weigh_the_text() -> None:
    reference, image = opened(filled(SMALL, trained_text=True), SMALL)[0], lines()[0]
    sure, unsure = LineText("Hello 42"), LineText("Hello 42", (0.9, 0.1, 0.5, 0.2, 0.9, 1.0, 0.3, 0.4))
    weighed, full = (reference([image] * 2, [sure, unsure], steps=2, weights=weights) for weights in WEIGHTS)
    assert (weighed[0].raw != weighed[1].raw).any()
    assert (full[0].raw == full[1].raw).all()
    assert (full[0].raw == weighed[0].raw).all()
    assert weighed[1].confidences == unsure.confidences


def test_sampled_text_is_reproducible_and_does_not_depend_on_the_batch() -> None:
    reference = opened(filled(SMALL, trained_text=True), SMALL)[0]
    together = reference(lines(), ["Hello 42", "北京"], seed=3, steps=4, text_sampler="categorical")
    again = reference(lines()[::-1], ["北京", "Hello 42"], seed=3, steps=4, text_sampler="categorical", batch_size=1)
    other = reference(lines(), ["Hello 42", "北京"], seed=4, steps=4, text_sampler="categorical")
    for one, two, third in zip(together, again[::-1], other, strict=True):
        assert one.tokens == two.tokens != third.tokens
        assert one.text == two.text == Alphabet.load().decode(one.tokens)
        assert np.abs(one.raw - two.raw).max() < 1e-4


@pytest.mark.parametrize("sampler", ["fixed", "categorical"])
def test_it_gives_what_the_restorer_gives(sampler: TextSampler) -> None:
    executor = TorchExecutor(graphs(filled(TINY, trained_text=True)))
    restorer = Restorer(stub_bundle(), executor, None)
    reference = Reference(executor, TINY, Alphabet.load(), None)
    images, texts = [draw_line("Hi", 20, 50), draw_line()], [LineText("Hi", (0.5, 1.0)), None]
    for image, ours, theirs in zip(
        images,
        reference(images, texts, seed=7, steps=3, text_sampler=sampler),
        restorer(images, texts, seed=7, steps=3, text_sampler=sampler, gate=Gate.off(), split=Split(enabled=False)),
        strict=True,
    ):
        assert ours.image.shape == (4 * image.shape[0], 4 * image.shape[1], 3)
        assert (ours.image == theirs.image).all()
        assert (ours.text, ours.confidences, ours.tokens) == (theirs.text, theirs.confidences, theirs.tokens)
        assert (ours.reader, ours.reason) == (theirs.reader, theirs.reason)
        assert ours.raw.shape == (TINY.height, TINY.width, 3)


def test_the_checkpoints_recogniser_reads(checkpoint: Path) -> None:
    reference = Reference.open(checkpoint, SMALL, "cpu")
    read, told = reference(lines()[:1] * 2, [None, "Hi"], steps=1)
    assert reference.reader is not None
    assert reference.reader.read(lines()[:1])[0].text == read.text
    assert (read.reader, told.reader, told.text) == ("TransOCR", "given", "Hi")


def test_what_a_checkpoint_states_counts() -> None:
    assert choose_preset("paper", {"schedule": "15"}).schedule == SCHEDULES[15]
    assert choose_preset("paper", {}).schedule == SCHEDULES[18]
    assert choose_preset("paper", {"schedule": "15"}, 4).schedule == SCHEDULES[4]
    assert choose_preset("compact", {"preset": "compact"}) == config.COMPACT
    with pytest.raises(InputError, match="of its own"):
        choose_preset("compact", {}, 4)
    with pytest.raises(InputError, match="18, 15, 4"):
        choose_preset("paper", {}, 5)
    with pytest.raises(BundleError, match="--preset paper"):
        choose_preset("compact", {"preset": "paper"})
    with pytest.raises(InputError, match="unknown preset"):
        choose_preset("huge", {})


def test_a_recogniser_with_random_weights_does_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "random.safetensors"
    stated = {"recognizer_symbols": SYMBOLS, "initialised": json.dumps(["transocr", "unet.text_blocks"])}
    save_model(filled(SMALL), path, stated)
    assert Reference.open(path, SMALL, "cpu").reader is None
    assert "random weights in transocr, unet.text_blocks" in caplog.text


def test_options_out_of_range_are_refused() -> None:
    reference, image = opened(filled(SMALL), SMALL)[0], lines()[0]
    with pytest.raises(InputError, match="from 1 to 18"):
        reference([image], steps=19)
    with pytest.raises(InputError, match="batch size"):
        reference([image], batch_size=0)
    with pytest.raises(InputError, match="ocr or one"):
        reference([image], weights="none")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one for each"):
        reference([image], ["a", "b"])
    with pytest.raises(InputError, match="cuda:N"):
        choose_device("tpu")
    with pytest.raises(DeviceError, match="no such CUDA device"):
        choose_device("cuda:99")
    with pytest.raises(BundleError, match="alphabet"):
        Reference(TorchExecutor({}), SMALL, Alphabet(("a", "b")), None)
    with pytest.raises(InputError, match="not both"):
        Reference.open("some.safetensors", random=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small preset whose TransOCR has symbols, for T = 15."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    stated = {"preset": "small", "schedule": "15", "recognizer_symbols": SYMBOLS}
    save_model(filled(SMALL, trained_text=True), path, stated)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two good pictures and a bad one below ``in``, and the small preset known by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(config.PRESETS, "small", SMALL)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(draw_line()).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    Image.fromarray(draw_line("Bye", 30, 70)).save(tmp_path / "in" / "sub" / "c.jpg")
    return tmp_path


def run(*arguments: str) -> int:
    return main([*arguments, "-o", "out", "--preset", "small", "--device", "cpu"])


def report(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "r.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_folder_with_a_bad_picture(folder: Path, checkpoint: Path) -> None:
    (folder / "t.tsv").write_text("a.png\tHi\t0.5 1\nsub/c\t\n", encoding="utf-8")
    given = "in", "--checkpoint", str(checkpoint), "--texts", "t.tsv", "--steps", "2", "--report", "r.jsonl"
    assert run(*given, "--seed", "9") == 1
    assert {path.relative_to(folder).as_posix() for path in (folder / "out").rglob("*.png")} == {
        "out/a.png",
        "out/sub/c.png",
    }
    assert load_image(folder / "out" / "sub" / "c.png").shape == (120, 280, 3)
    first, bad, empty = report(folder)
    assert (first["name"], first["text"], first["confidences"], first["reason"]) == ("in/a.png", "Hi", [0.5, 1.0], "")
    assert first["tokens"][:2] == Alphabet.load().encode("Hi")[0][:2].tolist()
    assert (first["executor"], first["schedule"], first["steps"], first["seed"]) == ("torch:cpu", 15, 2, 9)
    assert first["seconds"] > 0
    assert (bad["output"], "no picture" in bad["reason"]) == (None, True)
    assert empty["reason"] == NO_TEXT
    assert run(*given, "--seed", "9") == 2  # nothing is replaced unasked
    assert run("in/a.png", *given[1:-2], "--overwrite") == 0


def test_schedule_weights_and_texts_from_the_command(
    folder: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = "in/a.png", "--checkpoint", str(checkpoint), "--overwrite", "--report", "r.jsonl"
    assert run(*common, "--schedule", "4", "--text", "Hi", "--weights", "one", "--text-sampler", "categorical") == 0
    (record,) = report(folder)
    assert (record["schedule"], record["steps"], record["weights"]) == (4, 4, "one")
    assert (record["text_sampler"], record["reader"], record["confidences"]) == ("categorical", "given", [1.0, 1.0])
    assert "T = 15, but T = 4" in caplog.text
    assert run(*common, "--steps", "1") == 0
    assert report(folder)[0]["reader"] == "TransOCR"
    assert run(*common, "--steps", "1", "--no-text") == 0
    assert (report(folder)[0]["text"], report(folder)[0]["reason"]) == ("", NO_TEXT)


def test_random_weights_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in/a.png") == 2
    assert "textsr.checkpoint import" in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert run("in/a.png", "--random", "--steps", "1", "--report", "r.jsonl") == 0
    assert report(folder)[0]["reason"] == NO_READER
    assert NO_READER in capsys.readouterr().err


def test_checkpoints_that_do_not_fit(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["in/a.png", "-o", "out", "--device", "cpu", "--preset", "tiny", "--checkpoint"]
    assert main([*given, str(checkpoint)]) == 1
    assert "give --preset small" in capsys.readouterr().err
    plain = folder / "plain.safetensors"
    save_model(filled(SMALL), plain)
    assert main([*given, str(plain)]) == 1
    assert "--preset" in capsys.readouterr().err
    assert main([*given, "absent.safetensors"]) == 1
    assert "absent.safetensors" in capsys.readouterr().err
    assert not (folder / "out").exists()
