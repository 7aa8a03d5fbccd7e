"""Stage ``reader``: PP-OCRv6, which tells a model what a line says, learns to read lines that are degraded.

Its body goes on from its own weights; its head, which knows the characters, stays as it is. There are two losses. One
is CTC, in nats a character. The other takes the untrained recogniser as a teacher: at each step of the line, what the
head makes of the degraded line should be what it makes of the same line in high resolution (knowledge distillation,
Hinton et al. 2015), whose places are the same. Both count as log(1 + loss), so that lines which nobody can read do not
drown those that are almost read. Some lines of a batch are not degraded, so that clean ones are still read.

A run leaves ``model.safetensors`` with the weights that changed, under their names in PP-OCRv6's ONNX file.
``python -m train.reader RUN... --shares SHARE...`` makes of such weights what `runtime.recognizer.WEIGHTS` holds: what
training added to each weight, in 8 bits, half the size of the weights in 16 bits and closer to them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from runtime.bundle import file_sha256
from runtime.recognizer import BASE, MODEL, SCALE, WEIGHTS
from textsr.alphabet import Alphabet
from textsr.checkpoint import read_metadata
from textsr.errors import InputError, TextSRError
from train.degrade_sources import three_sources
from train.diffusion import picture
from train.harness import TrainConfig
from train.lines import LinesOfText, Prefetch, drawn_batches, line_batches
from train.losses import class_ids, ctc, encode, package_file, recognizer_symbols
from train.metrics import accuracy
from train.onnx_torch import OnnxModule
from train.pool import LinePool
from train.readings import NoiseModel
from train.recognisers import HEIGHT, read_ctc, shown
from train.runfolder import DAMAGE

CLEAN_SHARE = 1 / 8
"""Of a batch's lines that are not degraded."""
STEP = 8
"""Columns of the recogniser's input that become one step of CTC."""
VALIDATION_LINES = 96


class ReaderNetwork(nn.Module):
    """PP-OCRv6 with its body's weights and biases as parameters: (features (B,T,120), logits (B,T,classes))."""

    def __init__(self, path: Path) -> None:
        """Reads PP-OCR's ONNX file. Raises InputError where its end is no linear layer and a softmax."""
        super().__init__()
        model = onnx.load(str(path))
        products = [node for node in model.graph.node if node.op_type == "MatMul"]
        sums = [node for node in model.graph.node if products and products[-1].output[0] in node.input]
        if len(sums) != 1 or sums[0].op_type != "Add" or model.graph.node[-1].op_type != "Softmax":
            raise InputError(f"{path} does not end with a linear layer and a softmax")
        features, weight = products[-1].input
        kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        bias = next(name for name in sums[0].input if name in kept)
        self.body = OnnxModule(model, features)
        self.body.train_constants([n for n, shape in self.body.constants().items() if len(shape) > 1 or ".b_" in n])
        self.register_buffer("weight", torch.from_numpy(kept[weight].copy()), persistent=False)
        self.register_buffer("bias", torch.from_numpy(kept[bias].copy()), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of image (B,3,48,w), as `train.recognisers.shown` gives it."""
        features = self.body(image)
        return features, features @ self.get_buffer("weight") + self.get_buffer("bias")

    def named(self) -> dict[str, Tensor]:
        """The trained weights by their names in the ONNX file, float32."""
        return {
            name: value.detach().float().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.body.trained().items()
        }


def load_reader(network: ReaderNetwork, path: Path) -> None:
    """Fills ``network`` from a run's ``model.safetensors``. Raises InputError where it holds other weights."""
    try:
        values = load_file(path)
    except (*DAMAGE, OSError) as error:
        raise InputError(f"{path}: cannot be read as weights of --stage reader ({error})") from error
    wanted = network.body.trained()
    if {n: v.shape for n, v in values.items()} != {n: v.shape for n, v in wanted.items()}:
        raise InputError(f"{path} holds no weights of {MODEL}'s body: give a model.safetensors of --stage reader")
    with torch.no_grad():
        for name, value in values.items():
            wanted[name].copy_(value)


def differences(values: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``values`` add to ``base``, as `runtime.recognizer.reweighted` takes it: int8 with a factor for each row, at
    most half a factor off; vectors as they are, in half precision."""
    found = {}
    for name, value in values.items():
        if value.dim() < 2:
            found[name] = value.half()
            continue
        added = value - base[name]
        factors = added.flatten(1).abs().amax(1) / 127
        rows = added.flatten(1) / factors.clamp(min=1e-30)[:, None]
        found[name], found[name + SCALE] = rows.round().to(torch.int8).view_as(value), factors
    return found


class ReaderStage:
    """Trains a `ReaderNetwork` on lines of a pool. ``cfg.checkpoint``: an earlier run's weights to start from."""

    def __init__(self, cfg: TrainConfig, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        self.path = package_file("rapidocr", f"models/{MODEL}")
        self.network = ReaderNetwork(self.path).to(device)
        self.teacher = ReaderNetwork(self.path).to(device).requires_grad_(False)
        if cfg.checkpoint is not None:
            load_reader(self.network, cfg.checkpoint)
        self.model: nn.Module = self.network
        self.symbols = recognizer_symbols(self.path)
        self.ids = class_ids(self.symbols)
        weight = self.teacher.get_buffer("weight")
        self.metric = weight @ weight.T / weight.shape[1]  # |d W|^2 a class is d (W W^T) d, without all the classes
        self.generator = torch.Generator(device).manual_seed(cfg.seed)
        self.alphabet, self.noise = Alphabet.load(), NoiseModel.load()
        self.pool, self.val = LinePool(cfg.pool), LinePool(cfg.val_pool)

    def batches(self, step: int) -> Iterator[tuple[LinesOfText, Tensor, Tensor]]:
        """Batches with their degraded lines and those in high resolution as the recogniser is shown them."""
        seed = self.cfg.seed + step  # a resumed run draws other degradations than before
        self.generator.manual_seed(seed)
        parts = self.pool, self.noise, self.alphabet, self.cfg.batch_size
        lines = partial(drawn_batches, *parts, seed, self.cfg.workers)
        return Prefetch(lambda: (self._seen(batch, self.generator) for batch in lines()), device=self.device)

    @torch.no_grad()
    def _seen(self, batch: LinesOfText, generator: torch.Generator) -> tuple[LinesOfText, Tensor, Tensor]:
        hr = torch.from_numpy(batch.images).to(self.device).permute(0, 3, 1, 2).float().div(255).contiguous()
        with torch.autocast(self.device.type, enabled=False):
            severity = torch.from_numpy(batch.severity).to(self.device)
            low = three_sources(hr, 1.0, generator, severity, small_share=self.cfg.small_share)
            low = low.mul(255).round().div(127.5).sub(1)
        filled, few = torch.from_numpy(batch.filled), slice(round(CLEAN_SHARE * len(hr)))
        seen, clean = shown(low, filled), shown(hr.mul(2).sub(1), filled, antialias=True)
        seen[few] = clean[few]
        return batch, seen.contiguous(memory_format=torch.channels_last), clean

    def loss(self, batch: tuple[LinesOfText, Tensor, Tensor], progress: float) -> tuple[Tensor, dict[str, float]]:
        """CTC and the distance from the teacher, each as log(1 + loss)."""
        lines, seen, clean = batch
        with torch.no_grad():
            taught, _ = self.teacher(clean)
        features, logits = self.network(seen)
        each = ctc(logits, [encode(text, self.ids) for text in lines.texts])
        columns = torch.from_numpy(lines.filled * lines.images.shape[2] * HEIGHT / lines.images.shape[1])
        distance = self._distance(features.float(), taught.float(), columns)
        loss = each.log1p().mean() + distance.log1p().mean()
        return loss, {"ctc": each.mean().item(), "distance": distance.mean().item()}

    def _distance(self, features: Tensor, taught: Tensor, columns: Tensor) -> Tensor:
        """(B,): mean square of the difference in logits at the steps within a line's ``columns`` (B,), over the
        teacher's variance."""
        inside = (torch.arange(features.shape[1])[None] * STEP < columns[:, None]).to(features)
        spread = taught - taught.mean((0, 1), keepdim=True)
        variance = ((spread @ self.metric) * spread).sum(-1).mean()
        difference = features - taught
        square = ((difference @ self.metric) * difference).sum(-1)
        return (square * inside).sum(1) / inside.sum(1).clamp(min=1) / variance

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """Shares of validation lines that are read right, degraded and in high resolution; picture: both."""
        lines = [self.val[place] for place in range(min(VALIDATION_LINES, len(self.val)))]
        batch = next(line_batches(lines, self.noise, self.alphabet, len(lines), np.random.default_rng(1)))
        batch, seen, clean = self._seen(batch, torch.Generator(self.device).manual_seed(1))
        few = round(CLEAN_SHARE * len(lines))
        texts = [
            [reading.text for reading in read_ctc(model(image)[1].softmax(-1), self.symbols)] for image in (seen, clean)
        ]
        right = [[accuracy(found, text) for found, text in zip(part, batch.texts, strict=True)] for part in texts]
        picture([seen[few : few + 16].flip(1).float(), clean[few : few + 16].flip(1).float()], path)
        return {"degraded_right": float(np.mean(right[0][few:])), "clean_right": float(np.mean(right[1]))}

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """The trained weights; the metadata tells of the file that they belong to."""
        assert isinstance(model, ReaderNetwork)
        save_file(model.named(), path, metadata | {BASE: file_sha256(self.path), "model": MODEL})


def mean(runs: Sequence[Path], shares: Sequence[float], network: ReaderNetwork) -> dict[str, Tensor]:
    """PP-OCRv6's own weights and, of what each run added to them, a share (Wortsman et al. 2022).

    ``network`` has its own weights, afterwards the last run's. Raises InputError for weights of another model.
    """
    base = network.named()
    found = {name: value.clone() for name, value in base.items()}
    for run, share in zip(runs, shares, strict=True):
        load_reader(network, run / "model.safetensors")
        for name, value in network.named().items():
            found[name] += share * (value - base[name])
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m train.reader", description="The weights of runs, ready to be shipped.")
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of python -m train.run --stage reader")
    made.add_argument(
        "--shares", type=float, nargs="+", metavar="SHARE",
        help="of what each run added to PP-OCRv6's weights (default: all of one run)",
    )  # fmt: skip
    made.add_argument("--out", type=Path, default=WEIGHTS, help="file to write (default: what the product reads)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    given = parser().parse_args(arguments)
    shares = given.shares or [1.0]
    try:
        if len(shares) != len(given.runs):
            raise InputError(f"--shares: {len(shares)} for {len(given.runs)} runs: give one for each")
        path = package_file("rapidocr", f"models/{MODEL}")
        network = ReaderNetwork(path)
        base = network.named()
        values = mean(given.runs, shares, network)
        about = {"shares": json.dumps(shares), BASE: file_sha256(path), "model": MODEL}
        told = [read_metadata(run / "model.safetensors").get("training", "[]") for run in given.runs]
        save_file(differences(values, base), given.out, {**about, "training": f"[{', '.join(told)}]"})
    except (TextSRError, OSError) as error:
        sys.stderr.write(f"train.reader: {error}\n")
        return 1
    sys.stdout.write(f"{given.out}: {given.out.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
