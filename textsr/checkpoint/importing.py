"""One checkpoint from the published files of ResShift, its autoencoder, DiffTSR and TransOCR."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from textsr.alphabet import Alphabet
from textsr.checkpoint.files import held, require_fit
from textsr.checkpoint.pickles import read_published, sha256
from textsr.checkpoint.published import ADVICE, KINDS, TEXT_BLOCKS, unwrapped
from textsr.checkpoint.stated import ALPHABET, PREPROCESSING, SCHEDULE, SYMBOLS
from textsr.checkpoint.writer import write_tensors
from textsr.config import PAPER, SCHEDULES, Preprocessing, Preset, UNetConfig
from textsr.errors import InputError
from textsr.graphs import Model
from textsr.networks.attention import SpatialTransformer

logger = logging.getLogger(__name__)

SOFT_HYPHEN = "\u00ad"
"""TransOCR's class 1, before the characters of its list."""


@dataclass(frozen=True)
class Source:
    """A published file: the networks in it, and under which licence it was published."""

    kinds: tuple[str, ...]
    licence: str


SOURCES = {
    "resshift-unet": Source(("resshift-unet",), "S-Lab License 1.0 (non-commercial)"),
    "vqgan": Source(("vqgan-f4",), "MIT (CompVis latent-diffusion, vq-f4)"),
    "difftsr": Source(("difftsr-mom", "difftsr-tdm"), "Apache-2.0"),
    "transocr": Source(("transocr",), "MIT (FudanVI)"),
}
"""By the command's option."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """What to import: ``files`` by the keys of `SOURCES`, each may be missing; ``schedule`` is a T of `SCHEDULES`.

    ``alphabet``: DiffTSR's 6735 symbols; ``transocr_alphabet``: TransOCR's 7934; UTF-8, one symbol a line or all on
    one. ``seed``: of what has no file.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    alphabet: Path | None = None
    transocr_alphabet: Path | None = None
    schedule: int = 18
    preprocessing: Preprocessing = "transocr"
    seed: int = 0
    preset: Preset = PAPER


def import_published(wanted: Import, out: Path) -> dict[str, str]:
    """Writes the checkpoint ``out`` and returns its metadata.

    Every file is read and checked before anything is written; then one network after the other is copied from its
    memory-mapped file. Networks without a file, and the UNet's new cross-attention (whose output projections are zero),
    are initialised with the seed and listed in the metadata under ``initialised``.

    :raises InputError: no file is given, an alphabet does not fit, or ``out`` cannot be written.
    :raises BundleError: a file is damaged, wants to run code, or holds another network.
    """
    if not wanted.files:
        raise InputError(f"nothing to import: give at least one of {', '.join(f'--{name}' for name in SOURCES)}")
    metadata = {"format": "textsr", "preset": wanted.preset.name, SCHEDULE: str(wanted.schedule), **_alphabets(wanted)}
    metadata[PREPROCESSING] = wanted.preprocessing
    if wanted.schedule not in SCHEDULES:
        raise InputError(f"schedule must be one of {', '.join(map(str, SCHEDULES))}, not {wanted.schedule}")
    with torch.device("meta"):
        model = Model(wanted.preset)
    places = {kind: path for name, path in wanted.files.items() for kind in SOURCES[name].kinds}
    initialised = [KINDS[kind].child for kind in KINDS if kind not in places]
    for kind, path in places.items():
        initialised += [f"{KINDS[kind].child}.{part}" for part in _check(kind, path, model)]
    metadata["initialised"] = json.dumps(sorted(initialised))
    metadata["seed"] = str(wanted.seed)
    metadata["sources"] = json.dumps({name: _source(name, path) for name, path in wanted.files.items()})
    metadata["licence"] = "; ".join(dict.fromkeys(SOURCES[name].licence for name in wanted.files))
    write_tensors(out, held(model), _tensors(model, places, wanted), metadata)
    return metadata


def _source(name: str, path: Path) -> dict[str, object]:
    digest = sha256(path)
    return {"file": path.name, "sha256": digest, "bytes": path.stat().st_size, "licence": SOURCES[name].licence}


def _check(kind: str, path: Path, model: Model) -> list[str]:
    """Raises BundleError where the file does not fit; returns the optional parts that it lacks."""
    entry = KINDS[kind]
    tensors = unwrapped(read_published(path), entry.section)
    network = model.get_submodule(entry.child)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    require_fit(network, shapes, f"{path} as {kind}", ADVICE, optional=entry.optional)
    absent = entry.optional is not None and not held(network).keys() <= tensors.keys()
    return [str(entry.optional).removesuffix(".")] if absent else []


def _tensors(model: Model, places: Mapping[str, Path], wanted: Import) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the whole model in its order, one network in memory at a time."""
    kinds = {entry.child: kind for kind, entry in KINDS.items()}
    with torch.random.fork_rng(devices=[]):
        for number, (child, network) in enumerate(model.named_children()):
            torch.manual_seed(wanted.seed + number)
            kind = kinds[child]
            if kind in places:
                tensors = unwrapped(read_published(places[kind]), KINDS[kind].section)
            else:
                logger.warning("no file for %s: it is initialised with seed %d", child, wanted.seed)
                tensors = held(KINDS[kind].build(wanted.preset))
            yield from ((f"{child}.{name}", tensor) for name, tensor in _complete(network, tensors, wanted.preset.unet))


def _complete(network: nn.Module, tensors: Mapping[str, Tensor], cfg: UNetConfig) -> Iterator[tuple[str, Tensor]]:
    """``tensors`` in the network's order; the UNet's text blocks made anew, one at a time, where they are absent."""
    made: dict[str, Tensor] = {}
    for name in held(network):
        if name not in tensors and name not in made:
            block = name.removeprefix(TEXT_BLOCKS).split(".")[0]
            made = {
                f"{TEXT_BLOCKS}{block}.{key}": value for key, value in held(_text_block(network, block, cfg)).items()
            }
        yield name, tensors[name] if name in tensors else made[name]


def _text_block(network: nn.Module, block: str, cfg: UNetConfig) -> SpatialTransformer:
    norm = network.get_submodule(f"{TEXT_BLOCKS}{block}.norm")
    assert isinstance(norm, nn.GroupNorm)
    assert cfg.context_dim is not None
    return SpatialTransformer(norm.num_channels, cfg.context_dim, cfg.context_head_dim, cfg.norm_groups)


def _alphabets(wanted: Import) -> dict[str, str]:
    """The metadata of both alphabets, as far as they are given."""
    found, preset = {}, wanted.preset
    if wanted.alphabet is not None:
        symbols = read_symbols(wanted.alphabet)
        if len(symbols) != preset.padding:
            raise InputError(f"{wanted.alphabet} holds {len(symbols)} symbols, {preset.name} needs {preset.padding}")
        inside = set(symbols)
        folding = {a: b for a, b in Alphabet.load().folding.items() if a not in inside and b in inside}
        found[ALPHABET] = Alphabet(symbols, folding).to_json()
    elif "difftsr" in wanted.files:
        logger.warning("no --alphabet: the shipped one is used, whose ids are not those that DiffTSR was trained with")
    if wanted.transocr_alphabet is not None and preset.transocr is not None:
        symbols, count = read_symbols(wanted.transocr_alphabet), preset.transocr.classes - 2
        if len(symbols) == count - 1:
            symbols = (SOFT_HYPHEN, *symbols)
        if len(symbols) != count:
            raise InputError(
                f"{wanted.transocr_alphabet} holds {len(symbols)} symbols, TransOCR needs {count - 1}, or {count} with "
                "the soft hyphen before them"
            )
        found[SYMBOLS] = "".join(symbols)
    elif "transocr" in wanted.files:
        logger.warning("no --transocr-alphabet: TransOCR's classes have no symbols, so it cannot read lines")
    return found


def read_symbols(path: Path) -> tuple[str, ...]:
    """The symbols of a UTF-8 file: all on one line, or one a line. Raises InputError where it is neither."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as an alphabet: {error}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    lines = [line for line in lines if line]
    if len(lines) == 1:
        return tuple(lines[0])
    long = next((line for line in lines if len(line) != 1), None)
    if long is not None:
        raise InputError(
            f"{path}: an alphabet has one symbol a line or all on one line, not {long[:20]!r} among others"
        )
    return tuple(lines)
