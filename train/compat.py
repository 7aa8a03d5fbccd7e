"""Makes ``timm`` importable beside a CPU build of torch.

The registry's torchvision is a CUDA build: beside a CPU torch its import stops with ``operator torchvision::nms does
not exist``. Declaring the missing operator schemas first mends that; they are never called here.
"""

from __future__ import annotations

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor a, Tensor b, float c, SymInt d, SymInt e, int f, bool g) -> Tensor",
    "_roi_align_backward(Tensor a, Tensor b, float c, SymInt d, SymInt e, SymInt f, SymInt g, SymInt h, "
    "SymInt i, int j, bool k) -> Tensor",
    "roi_pool(Tensor a, Tensor b, float c, SymInt d, SymInt e) -> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor a, Tensor b, Tensor c, float d, SymInt e, SymInt f, SymInt g, SymInt h, "
    "SymInt i, SymInt j) -> Tensor",
    "ps_roi_align(Tensor a, Tensor b, float c, SymInt d, SymInt e, int f) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor a, Tensor b, Tensor c, float d, SymInt e, SymInt f, int g, SymInt h, "
    "SymInt i, SymInt j, SymInt k) -> Tensor",
    "ps_roi_pool(Tensor a, Tensor b, float c, SymInt d, SymInt e) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor a, Tensor b, Tensor c, float d, SymInt e, SymInt f, SymInt g, SymInt h, "
    "SymInt i, SymInt j) -> Tensor",
    "deform_conv2d(Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, SymInt f, SymInt g, SymInt h, SymInt i, "
    "SymInt j, SymInt k, SymInt l, SymInt m, bool n) -> Tensor",
    "_deform_conv2d_backward(Tensor z, Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, SymInt f, SymInt g, "
    "SymInt h, SymInt i, SymInt j, SymInt k, SymInt l, SymInt m, bool n) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _declare() -> torch.library.Library | None:
    if torch.version.cuda is not None:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


LIBRARY = _declare()  # the declarations live as long as this object
