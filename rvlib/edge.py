"""Networks as ONNX files, which run without torch and Python, and such files as networks that `restore` takes.

The optional extra `edge` brings what this module needs: onnx, onnxscript and onnxruntime.
"""

import copy
import importlib.util
import json
import logging
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import complexity, fast, photos
from rvlib.color import rgb_to_ycbcr, ycbcr_to_rgb
from rvlib.degrade import cubic, imresize
from rvlib.errors import UserError, in_short
from rvlib.files import make_ready, write_atomically
from rvlib.models import fsrcnn
from rvlib.models.base import RestorationModel, unwrapped
from rvlib.restore import to_tensor

OPSET = 20
"""Version of the ONNX operators in a file; onnxruntime has read it since version 1.17 (2024)."""

LIMITS = {"fp32": 1e-3, "fp16": 2e-2, "int8": None}
"""Precisions, and how far a file's result may be from torch's, of 1; what int8 costs depends on the network."""

SIZES = ((1, 48, 64), (2, 64, 32), (1, 72, 80))
"""Photos in a batch, height and width that a file is tried with before it is kept."""

INPUTS = ("degraded", "noise")
"""Names of a file's inputs, in the order of the forward's arguments; its output is `restored`."""

TRACING = threading.Lock()
"""One export at a time: what is replaced while a network is traced, it and torch's tracer, is the whole process's."""

DECLARED = {
    "task": str,
    **dict.fromkeys(("scale", "channels", "multiple_of", "window", "noise_size"), int),
    "reach": int | None,
    "bytes_per_pixel": float | int,
    "method": str | None,
}
"""Attributes of the network (`RestorationModel`) that a file repeats in its metadata, and what they are."""


def export(
    model: nn.Module,
    path: str | Path,
    *,
    precision: str = "fp32",
    rgb: bool = False,
    calibration: Iterable[np.ndarray] | None = None,
) -> float:
    """Write a network as ONNX and return how far its results are from torch's at most (1 is white).

    Inputs are `degraded` (b channels h w) in [0, 1], whose sides are multiples of `multiple_of`, and for DiffIR `noise`
    (b, 256); the output is `restored`. Batch, height and width are free, sides from 2 on. Weights are stored in
    `precision`: "fp32"; "fp16", which halves the file; or "int8" weights and activations, whose ranges are measured on
    `calibration` photos (uint8 H x W x 3, as they would be restored; without them sample photos). `rgb` exports a
    network for the luminance with the colour around it that `restore` adds. The file is written only after onnxruntime
    has run it on three sizes. Raises UserError where the extra is not installed, for networks that cannot be exported
    and for results too far off.
    """
    if precision not in LIMITS:
        raise UserError(f"unknown precision {precision!r}: choose one of {', '.join(LIMITS)}")
    _installed()
    make_ready(path)
    network = copy.deepcopy(unwrapped(model)).cpu().eval()  # the caller's stays where and as it is
    if network.needs_reference:
        raise UserError("stage 1 of DiffIR needs the reference that it is to restore: export stage 2")
    if rgb:
        if network.channels != 1 or network.task != "super-resolution":
            raise UserError("rgb is for networks that enlarge the luminance alone: leave it out for this one")
        network = Luminance(network)
    content = _traced(network)
    if precision == "fp16":
        content = _halved(content)
    elif precision == "int8":
        seen = list(calibration or samples(network))
        if any(min(photo.shape[:2]) < network.multiple_of for photo in seen):
            raise UserError(f"photos for the ranges need {network.multiple_of} pixels a side: leave smaller ones out")
        content = quantised(content, network, seen)
    _describe(content, network, precision)
    packed = content.SerializeToString()
    difference, limit = _largest_difference(packed, network), LIMITS[precision]
    if not np.isfinite(difference) or (limit is not None and difference > limit):
        advice = "export it in fp32" if precision != "fp32" else "this network cannot be exported"
        raise UserError(f"its results in {precision} are {difference:.2g} away from torch's: {advice}")
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(packed))
    return difference


class Luminance(RestorationModel):
    """A network for the luminance with what `restore` adds to it: RGB (b 3 h w) -> (b 3 scale·h scale·w)."""

    channels = 3

    def __init__(self, network: RestorationModel):
        super().__init__()
        self.network = network
        self.task, self.scale, self.method, self.source = network.task, network.scale, network.method, network.source
        self.multiple_of, self.window = network.multiple_of, network.window
        if network.reach is not None:
            self.reach = max(network.reach, 2)  # bicubic interpolation reaches two pixels

    def forward(self, degraded: Tensor) -> Tensor:
        """The network enlarges the luminance, bicubic interpolation the chroma."""
        ycbcr = rgb_to_ycbcr(degraded)
        luminance = self.network(ycbcr[:, :1]).clamp(0, 1)
        return ycbcr_to_rgb(torch.cat([luminance, enlarge(ycbcr[:, 1:], self.scale)], dim=1)).clamp(0, 1)


class OnnxModel(RestorationModel):
    """An ONNX file that `export` wrote, run by onnxruntime on the CPU: `restore` takes it as any other network.

    DiffIR's files extract the IPR of each tile by itself.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.session = _opened(path)
        self.described = _described(self.session, path)
        for name in DECLARED:
            setattr(self, name, self.described[name])
        self.spec = {"name": "onnx", "arguments": {}}
        self.source = {"file": Path(path).name, **{name: self.described[name] for name in ("sha256", "licence")}}

    def forward(self, degraded: Tensor, noise: Tensor | None = None) -> Tensor:
        """(b channels h w) -> (b channels scale·h scale·w)."""
        if torch.is_autocast_enabled(degraded.device.type):
            raise UserError("an ONNX file has its own precision: leave --precision out")
        return _run(self.session, degraded, noise).to(degraded.device)


def enlarge(image: Tensor, scale: int) -> Tensor:
    """`imresize` by a whole factor, as a convolution, which fits a graph of free size: (b c h w), sides of 2 or more.

    Output r of a cell of n lies at (r + 1/2) / n - 1/2 from its input and reads five inputs, weighted by the cubic.
    """
    places = (np.arange(scale) + 0.5) / scale - 0.5
    taps = cubic(np.arange(-2, 3) - places[:, None])  # (scale 5)
    kernels = torch.from_numpy(np.einsum("yi,xj->yxij", taps, taps)).to(image).reshape(scale**2, 1, 5, 5)
    wide = torch.cat([image[..., :2].flip(-1), image, image[..., -2:].flip(-1)], dim=-1)  # the border is mirrored
    padded = torch.cat([wide[..., :2, :].flip(-2), wide, wide[..., -2:, :].flip(-2)], dim=-2)
    planes = [F.conv2d(padded[:, [channel]], kernels) for channel in range(image.shape[1])]
    return torch.cat([F.pixel_shuffle(plane, scale) for plane in planes], dim=1)


def samples(network: RestorationModel, *, without: Collection[str] = ()) -> Iterator[np.ndarray]:
    """Sample photos as the network gets them: shrunk for super-resolution, otherwise as they are.

    without: names of photos that are kept for a test.
    """
    names = ("chelsea", "coffee", "rocket", "flower", "china", "motorcycle_left")
    for name in (name for name in names if name not in without):
        photo = photos.sample(name)[:256, :256]
        yield imresize(photo, 1 / network.scale) if network.scale > 1 else photo[:128, :128]


def _installed() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        install = "in a checkout, pip install -c constraints.txt -e '.[edge]'"
        raise UserError(f"ONNX files need {', '.join(missing)}: {install}")


def _inputs(network: RestorationModel, photo: np.ndarray, batch: int = 1) -> tuple[Tensor, ...]:
    """Inputs of a forward: the photo (uint8 H x W x 3), cropped to the multiple, and noise where it is asked for."""
    height, width = (side - side % network.multiple_of for side in photo.shape[:2])
    degraded = to_tensor(photo[:height, :width])
    degraded = degraded if network.channels == 3 else rgb_to_ycbcr(degraded)[:, :1]
    inputs = (degraded.repeat(batch, 1, 1, 1),)
    if network.noise_size:
        inputs += (torch.randn(batch, network.noise_size, generator=torch.Generator().manual_seed(0)),)
    return inputs


def _example(network: RestorationModel, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Inputs of a forward: a part of a sample photo of about this size."""
    height, width = (side + -side % network.multiple_of for side in (height, width))
    return _inputs(network, photos.sample("chelsea")[60 : 60 + height, 100 : 100 + width], batch)


def _named(inputs: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Inputs of a forward by their names in a file."""
    return {name: each.cpu().numpy() for name, each in zip(INPUTS, inputs, strict=False) if each is not None}


@torch.no_grad()
def _traced(network: RestorationModel):
    """The network as an ONNX model in float32, by torch's exporter."""
    inputs = _example(network, 2, 48, 64)
    shapes = ({0: "batch", 2: "height", 3: "width"}, {0: "batch"})[: len(inputs)]
    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    # the plain twins: what is faster in torch on a CPU only makes a larger graph. SRCNN enlarges by `imresize`, which
    # reads sizes as numbers; `enlarge` gives the same for all sizes from 2 on
    enlarging = mock.patch.object(fsrcnn, "imresize", enlarge)
    with TRACING, fast.plain(), enlarging, warnings.catch_warnings(action="ignore"):
        levels = [each.level for each in quiet]
        for each in quiet:
            each.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=INPUTS[: len(inputs)],
                output_names=["restored"],
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:
            raise UserError(f"torch cannot export this network: {in_short(error.__cause__ or error)}") from None
        finally:
            for each, level in zip(quiet, levels, strict=True):
                each.setLevel(level)
    return program.model_proto


def _halved(content):
    """The model with weights and computations in half precision; inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings(action="ignore"):  # of weights too small for half precision, which become zero
        return convert_float_to_float16(content, keep_io_types=True)


def quantised(content, network: RestorationModel, calibration: list[np.ndarray], *, only: list[str] | None = None):
    """An ONNX model with int8 weights per channel and int8 activations, by onnxruntime's static quantisation.

    `only` names the nodes that are quantised; without it all are that can be.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):
        """Hands the calibration photos over, one at a time."""

        def __init__(self):
            self.left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            photo = next(self.left, None)
            return None if photo is None else _named(_inputs(network, photo))

    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        plain, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "small"))
        onnx.save(content, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, small, Photos(), per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=only
        )
        return onnx.load(small)


def _describe(content, network: RestorationModel, precision: str) -> None:
    """Write into the model what `restore` has to know about it, and where its weights come from."""
    if network.bytes_per_pixel is None:
        inputs = _example(network, 1, 64, 64)
        network.bytes_per_pixel = complexity.peak_memory(network, *inputs) / 64**2
    known = {name: getattr(network, name) for name in DECLARED} | {"precision": precision, "sha256": "", "licence": ""}
    if network.noise_size:
        content.doc_string = "The IPR is that of the input: where a photo is cut into tiles, each has its own."
    for key, value in (known | network.source).items():
        content.metadata_props.add(key=key, value=json.dumps(value))


def _session(content: str | bytes):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        named = "the exported network" if isinstance(content, bytes) else content
        raise UserError(f"onnxruntime cannot read {named} ({in_short(error)}): export it again") from None


def _opened(path: str | Path):
    """A file in onnxruntime; raises UserError for one that is damaged or not there, and without the extra."""
    _installed()
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist: give an ONNX file that `rvlib export` wrote")
    return _session(str(path))


def _described(session, path: str | Path) -> dict:
    """What `export` wrote into a file; raises UserError for a file that is not its own."""
    found = session.get_modelmeta().custom_metadata_map
    try:
        described = {name: json.loads(found[name]) for name in (*DECLARED, "precision", "sha256", "licence")}
    except (KeyError, ValueError):
        described = {}
    if not all(isinstance(described.get(name, ...), kind) for name, kind in DECLARED.items()):
        raise UserError(f"{path} does not say how it restores: only files that `rvlib export` wrote do")
    return described


def _run(session, *inputs: Tensor | None) -> Tensor:
    return torch.from_numpy(session.run(None, _named(inputs))[0])


@torch.no_grad()
def _largest_difference(packed: bytes, network: RestorationModel) -> float:
    """How far onnxruntime's results are from torch's at most, over the sizes that are tried."""
    session = _session(packed)
    differences = []
    for size in SIZES:
        inputs = _example(network, *size)
        differences.append((_run(session, *inputs) - network(*inputs)).abs().max().item())
    return max(differences) if np.isfinite(differences).all() else float("inf")
