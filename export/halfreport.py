"""What was found about half precision, as bundle.json records it: budget, keep-lists, errors, ranges, FLOP, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from export.flops import Work
from export.half import KINDS, STRUCTURAL, STRUCTURAL_OPS
from export.ranges import Reached
from export.report import Flips
from export.search import HEADROOM, LARGEST
from textsr.errors import EngineError

POLICY = {
    "typing": "every node computes in float16 or float32; casts stand at the borders; a graph's inputs and outputs are "
    "float32 and int64; weights are float16 and cast up only for float32 nodes",
    "always_float32": {
        "blocks": list(STRUCTURAL),
        "operators": sorted(STRUCTURAL_OPS),
        "and": "the arithmetic before a sine or cosine",
    },
    "candidates": f"blocks (modules), and by operator {', '.join(KINDS)}",
    "search": "blocks out of range first, then greedily by the error each removes alone; then those not needed are "
    "removed, and the others keep all but their products (:pointwise) where that is enough",
}


@dataclass(frozen=True)
class Budget:
    """What half precision must keep.

    ``error``: max|a - b| / max|a| of every floating-point output against float32, on float32's inputs, every step.
    ``psnr``: dB of the final image of a loop left to itself. ``share``: of the FLOP of convolutions and matrix
    products, on half operands, for a line. ``largest``: magnitude of a half tensor over the recorded lines.
    """

    error: float = 5e-3
    psnr: float = 40.0
    share: float = 0.9
    largest: float = LARGEST / HEADROOM


@dataclass(frozen=True)
class GraphEvidence:
    """What was found for one graph (`export.search.Found`); ``largest`` has its largest tensors in half precision,
    ``largest_sum`` the largest sum of magnitudes within a convolution or matrix product: the emulation adds up in
    float32, and below 65504 a backend that does so in half precision does not overflow either.
    """

    keep: tuple[str, ...]
    because_of_range: tuple[str, ...]
    error: float
    error_all_half: float | None  # None: not finite
    alone: Mapping[str, float | None]
    tried: int
    runs: int
    largest: tuple[Reached, ...]
    largest_sum: Reached | None
    macs: Work
    nodes: Mapping[str, int]
    on_cpu: float | None = None  # error of the shipped half graph on ONNX Runtime, which rounds less


@dataclass(frozen=True)
class ImageEvidence:
    """The loop left to itself in half precision against float32: PSNR in dB (peak 2), flips, error of the latent.

    ``psnr_forced``: the decoder alone, on the reference's latent.
    """

    psnr: float
    psnr_forced: float
    z_0: float
    codes: Flips
    tokens: Flips


@dataclass(frozen=True)
class HalfReport:
    """The evidence of a bundle's half graphs. ``share`` is by text sampler, over all the preset's steps."""

    budget: Budget
    evaluator: str
    lines: Mapping[str, Any]
    steps: int
    graphs: Mapping[str, GraphEvidence]
    images: Mapping[str, ImageEvidence]
    share: Mapping[str, float]
    policy: Mapping[str, Any] = field(default_factory=lambda: POLICY)

    def require(self) -> None:
        """Raises EngineError where the budget is not kept."""
        for sampler, share in self.share.items():
            if share < self.budget.share:
                worst = min(self.graphs, key=lambda name: self.graphs[name].macs.half - self.graphs[name].macs.total)
                raise EngineError(
                    f"only {share:.1%} of a line's FLOP ({sampler} text) run on half operands, {self.budget.share:.0%} "
                    f"needed: graph {worst} keeps {', '.join(self.graphs[worst].keep) or 'nothing'} in float32"
                )
        for sampler, image in self.images.items():
            if not image.psnr >= self.budget.psnr:
                raise EngineError(
                    f"final image in half precision ({sampler} text): {image.psnr:.1f} dB, {self.budget.psnr:g} needed"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values for bundle.json."""
        return asdict(self)

    def table(self) -> str:
        """Keep-lists, errors and shares by graph, and the images. Text."""
        lines = [f"half precision against float32; budget {self.budget.error:g}, {self.budget.psnr:g} dB", ""]
        lines.append(f"{'graph':<20}{'all half':>10}{'as built':>10}{'largest':>10}{'on half':>9}  kept in float32")
        for name, found in self.graphs.items():
            before = "not finite" if found.error_all_half is None else f"{found.error_all_half:.1e}"
            top = max((entry.largest for entry in found.largest), default=0.0)
            share = found.macs.half / found.macs.total if found.macs.total else 1.0
            kept = ", ".join(found.keep) or "-"
            lines.append(f"{name:<20}{before:>10}{found.error:>10.1e}{top:>10.4g}{share:>9.1%}  {kept}")
        lines.append("")
        for sampler, image in self.images.items():
            lines.append(
                f"{sampler} text, {self.steps} steps: image {image.psnr:.1f} dB (decoder alone "
                f"{image.psnr_forced:.1f}), codes flipped {image.codes.flipped} of {image.codes.total}, tokens flipped "
                f"{image.tokens.flipped} of {image.tokens.total}; {self.share[sampler]:.2%} of a line's FLOP on half"
            )
        return "\n".join(lines)


def from_json(data: Mapping[str, Any]) -> HalfReport:
    """The inverse of `HalfReport.to_json`."""

    def graph(entry: Mapping[str, Any]) -> GraphEvidence:
        largest = tuple(Reached(**reached) for reached in entry["largest"])
        names: Sequence[str] = ("keep", "because_of_range")
        lists = {name: tuple(entry[name]) for name in names}
        total = None if entry["largest_sum"] is None else Reached(**entry["largest_sum"])
        values = {"largest": largest, "largest_sum": total, "macs": Work(**entry["macs"])}
        return GraphEvidence(**{**entry, **lists, **values})

    def image(entry: Mapping[str, Any]) -> ImageEvidence:
        flips = {name: Flips(**entry[name]) for name in ("codes", "tokens")}
        return ImageEvidence(**{**entry, **flips})

    return HalfReport(
        **{
            **data,
            "budget": Budget(**data["budget"]),
            "graphs": {name: graph(entry) for name, entry in data["graphs"].items()},
            "images": {name: image(entry) for name, entry in data["images"].items()},
        }
    )
