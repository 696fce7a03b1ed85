"""Let torchvision be imported beside a CPU build of torch.

timm and lpips import torchvision. A torchvision wheel built for CUDA cannot load its extension beside a CPU torch,
and then stops with "operator torchvision::nms does not exist" although nothing here calls that operator. Where the
extension loads, nothing is changed; where it does not, the two operators that torchvision's Python code registers
functions for are declared (not implemented: calling them still raises torchvision's own error).
"""

import importlib.util
from pathlib import Path

import torch

_DECLARED: list[torch.library.Library] = []  # a Library undoes its declarations when it is collected


def _declare_missing() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    extension = next(Path(spec.origin).parent.glob("_C*"), None)
    try:
        if extension is not None:
            torch.ops.load_library(str(extension))
            return
    except OSError:
        pass
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


_declare_missing()
