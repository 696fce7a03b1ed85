"""Ratios between this library and its peers: the same weights, the same inputs, equal outputs, in one run.

Each pair is timed in turns (theirs, ours, theirs, ours, ...), and the medians are compared, so that whatever else slows
the machine slows both. A peer is the official implementation as the package spandrel carries it, or, where no package
has one, the plain form of the same computation, made of the plain twins in `rvlib.fast`. `make bench` writes the
tables beside this file.
"""

import copy
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

import rvlib
from rvlib import backbones, complexity, degrade, fast, losses, metrics, recipes
from rvlib.color import luminance
from rvlib.degrade import Bicubic
from rvlib.objectives import Pixelwise
from rvlib.pairs import Patches, photo_pairs
from rvlib.photos import sample
from rvlib.restore import to_tensor
from rvlib.study import profiles, tables
from rvlib.train import Settings, fit

TURNS = 5


def interleaved(theirs: Callable, ours: Callable, turns: int = TURNS) -> tuple[float, float]:
    """Median seconds of both, called in turns after one call each that does not count."""
    times = ([], [])
    for turn in range(turns + 1):
        for taken, work in zip(times, (theirs, ours), strict=True):
            started = time.perf_counter()
            work()
            if turn:
                taken.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def row(
    what: str, peer: str, theirs: Callable, ours: Callable, *, tolerance: float, target: float, turns: int = TURNS
) -> dict:
    """Check that both give the same and time them."""
    with torch.inference_mode():
        difference = float(np.abs(np.asarray(theirs(), dtype=float) - np.asarray(ours(), dtype=float)).max())
        assert difference <= tolerance, f"{what}: differs by {difference} from {peer}"
        return timing(what, peer, theirs, ours, target=target, turns=turns)


def timing(what: str, peer: str, theirs: Callable, ours: Callable, *, target: float, turns: int = TURNS) -> dict:
    """A row of the table."""
    slow, fast = interleaved(theirs, ours, turns)
    return {"what": what, "peer": peer, "peer s": slow, "ours s": fast, "times faster": slow / fast, "target": target}


class Plain(nn.Module):
    """The plain form of a model: memory in the order of the shapes, and the plain twin of every fast function."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What the model gives, up to rounding."""
        with fast.plain():
            return self.model(*inputs)


def official(name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and spandrel's with the same weights."""
    from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFNet
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    if name == "nafnet":
        ours = rvlib.create("nafnet", variant="gopro-w32")
        blocks = {"middle_blk_num": 1, "enc_blk_nums": [1, 1, 1, 28], "dec_blk_nums": [1, 1, 1, 1]}
        theirs = NAFNet(img_channel=3, width=32, **blocks)
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs
    ours = rvlib.create("swinir", variant=name)
    depth, width = (4, 60) if name == "light" else (6, 180)
    sizes = {"depths": [6] * depth, "num_heads": [6] * depth, "embed_dim": width, "window_size": 8, "mlp_ratio": 2}
    upsampler = "pixelshuffledirect" if name == "light" else "pixelshuffle"
    theirs = SwinIR(upscale=4, img_size=64, img_range=1.0, upsampler=upsampler, resi_connection="1conv", **sizes)
    theirs.load_state_dict(ours.state_dict(), strict=False)  # it has derived buffers
    return ours, theirs


def half(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A forward as `rvlib.restore(precision="bf16")` computes it."""
    with torch.autocast("cpu", torch.bfloat16):
        return model(x).float()


def bound(model: nn.Module, *inputs: torch.Tensor) -> float:
    """Seconds of a forward's multiply-adds at the rate of a product of large matrices."""
    matrix = torch.rand(2048, 2048)
    seconds, _ = interleaved(lambda: matrix @ matrix, lambda: None)
    return complexity.multiply_adds(model, *inputs) / 2048**3 * seconds


def costs(theirs: nn.Module, ours: nn.Module, *inputs: torch.Tensor) -> dict[str, float]:
    """Peak memory as a ratio, and the bound."""
    memory = [complexity.peak_memory(model, *inputs) for model in (theirs, ours)]
    return {"peak memory, ours / peer": memory[1] / memory[0], "bound s": bound(ours, *inputs)}


def forwards() -> list[dict]:
    """Forwards in official sizes: super-resolution of 64 x 64, deblurring of 256 x 256."""
    torch.manual_seed(0)
    small, large = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 256, 256)
    noise = torch.randn(1, 256)
    rows = []
    for name, x, target in (("classical", small, 1.4), ("light", small, 1.4), ("nafnet", large, 1.5)):
        ours, theirs = (model.eval() for model in official(name))
        facts = {"tolerance": 1e-3, "target": target}
        what = "NAFNet w32 forward" if name == "nafnet" else f"SwinIR {name} forward"
        rows.append(row(what, "spandrel", lambda m=theirs, x=x: m(x), lambda m=ours, x=x: m(x), **facts))
        rows[-1] |= costs(theirs, ours, x)
        facts |= {"tolerance": 0.1, "target": 2.2 if name == "nafnet" else 2.0}
        rows.append(
            row(f"{what}, bf16", "spandrel, fp32", lambda m=theirs, x=x: m(x), lambda m=ours, x=x: half(m, x), **facts)
        )
    named = {
        "DiffIR S2 deblurring forward": (rvlib.create("diffir", task="deblurring"), (large, noise), 1.6),
        "DiffIR S2 x4 forward": (rvlib.create("diffir"), (small, noise), 1.3),
        "SRGAN generator forward": (rvlib.create("srgan"), (small,), 1.3),
        "FSRCNN forward": (rvlib.create("fsrcnn"), (torch.rand(1, 1, 256, 256),), 1.0),
    }
    for what, (ours, inputs, target) in named.items():
        ours.eval()
        theirs, facts = Plain(ours), {"tolerance": 1e-3, "target": target}
        rows.append(row(what, "plain form", lambda m=theirs, i=inputs: m(*i), lambda m=ours, i=inputs: m(*i), **facts))
        rows[-1] |= costs(theirs, ours, *inputs)
    return rows


def steps() -> list[dict]:
    """A training step each, forward and backward, with equal gradients."""
    rows = []
    for name, what, shapes in (
        ("light", "SwinIR light training step", ((4, 3, 24, 24), (4, 3, 96, 96))),
        ("nafnet", "NAFNet w32 training step", ((2, 3, 128, 128), (2, 3, 128, 128))),
    ):
        torch.manual_seed(0)
        ours, theirs = (model.train() for model in official(name))
        for module in (*ours.modules(), *theirs.modules()):
            if type(module).__name__ == "DropPath":
                module.drop_prob = 0.0  # both would drop other paths
        x, y = (torch.rand(shape) for shape in shapes)

        def step(model: nn.Module, x=x, y=y) -> None:
            model.zero_grad()
            F.l1_loss(model(x), y).backward()

        rows.append(timing(what, "spandrel", partial(step, theirs), partial(step, ours), target=1.3))
        for key, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, theirs.get_parameter(key).grad, rtol=1e-3, atol=1e-5)
        # the backward pass multiplies twice: for the gradients of the inputs and of the weights
        rows[-1]["bound s"] = 3 * bound(ours, x)
    return rows


def plain_resize(image: np.ndarray, factor: float) -> np.ndarray:
    """The usual port of MATLAB's resize: a product of vectors for each line of the result and each channel."""
    rows, columns = (degrade._contributions(side, factor) for side in image.shape[:2])
    tall = torch.from_numpy(image)
    enlarged = torch.zeros(len(rows[0]), *image.shape[1:], dtype=tall.dtype)
    for line, (indices, weights) in enumerate(zip(*rows, strict=True)):
        for channel in range(image.shape[2]):
            part = tall[torch.from_numpy(indices), :, channel]
            enlarged[line, :, channel] = part.T.mv(torch.from_numpy(weights))
    resized = torch.zeros(len(rows[0]), len(columns[0]), image.shape[2], dtype=tall.dtype)
    for line, (indices, weights) in enumerate(zip(*columns, strict=True)):
        for channel in range(image.shape[2]):
            part = enlarged[:, torch.from_numpy(indices), channel]
            resized[:, line, channel] = part.mv(torch.from_numpy(weights))
    return resized.numpy()


def gathered_resize(image: np.ndarray, factor: float) -> np.ndarray:
    """The other usual port: all that an output reads is gathered for all outputs at once, weighted and summed."""
    for axis in (0, 1):
        indices, weights = degrade._contributions(image.shape[axis], factor)
        taken = np.take(image, indices, axis=axis)
        image = (taken * weights[..., None, None] if axis == 0 else taken * weights[None, ..., None]).sum(axis=axis + 1)
    return image


def looped_resize(image: np.ndarray, factor: float) -> np.ndarray:
    """A port in plain Python: weighted and summed value by value."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        indices, weights = degrade._contributions(len(lines), factor)
        resized = np.zeros((len(indices), *lines.shape[1:]))
        for output in range(len(indices)):
            for line in range(lines.shape[1]):
                resized[output, line] = (lines[indices[output], line] * weights[output][:, None]).sum(axis=0)
        image = np.moveaxis(resized, 0, axis)
    return image


def measures() -> list[dict]:
    """Resizing and metrics."""
    # here, because it imports torchvision, which needs rvlib's help beside a CPU build of torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    perceptual = _NoTrainLpips(net="alex", pnet_rand=True)  # torchvision's server may be out of reach: rvlib's backbone
    perceptual.net.load_state_dict(backbones.lpips_network("alex").net.state_dict())
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (2040, 1356, 3), dtype=np.uint8)
    first = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    second = np.clip(first + rng.normal(0, 8, first.shape), 0, 255).astype(np.uint8)

    def usual() -> list[float]:
        pair = [to_tensor(image) for image in (first, second)]
        ys = [luminance(image * 255, white=255.0) for image in pair]
        similarity = structural_similarity_index_measure(*ys, data_range=255.0, sigma=1.5)
        distance = perceptual(*pair, normalize=True)
        return [float(peak_signal_noise_ratio(*ys, data_range=255.0)), float(similarity), float(distance)]

    ours = lambda: [measure(first, second) for measure in (metrics.psnr, metrics.ssim, metrics.lpips)]  # noqa: E731
    rows = []
    for peer, port, turns in (
        ("value by value", looped_resize, 1),
        ("lines in a loop", plain_resize, TURNS),
        ("gathered in numpy", gathered_resize, TURNS),
    ):
        theirs = lambda port=port: port(photo.astype(np.float64), 0.25).round().clip(0, 255)  # noqa: E731
        resized = lambda: degrade.imresize(photo, 0.25)  # noqa: E731
        rows.append(row("imresize 1/4 of 2040 x 1356", peer, theirs, resized, tolerance=0, target=30, turns=turns))
    what = "PSNR, SSIM and LPIPS of 1280 x 720"
    return [*rows, row(what, "torchmetrics", usual, ours, tolerance=1e-3, target=1.5)]


def timed(function: Callable, spent: list[float]) -> Callable:
    """The function, which notes how long each call of it took, on the clock of the training's log."""

    def call(*arguments):
        started = time.thread_time()
        result = function(*arguments)
        spent.append(time.thread_time() - started)
        return result

    return call


def overheads() -> dict[str, float]:
    """Share of a training step that is neither forward, backward nor optimizer, and CPU seconds of `import rvlib`."""
    found = {}
    for name, method, settings in (
        ("FSRCNN, batch 16", "fsrcnn", {"steps": 300, "batch_size": 16, "validate_every": 300}),
        ("SwinIR light, batch 4", "swinir", {"steps": 40, "batch_size": 4, "validate_every": 40}),
    ):
        model, spent = rvlib.create(method), []
        patches = Patches({"coffee": sample("coffee")}, Bicubic(4), patch_size=96, channels=model.channels)
        objective = timed(Pixelwise(losses.mse), spent)
        with (
            mock.patch.object(torch.Tensor, "backward", timed(torch.Tensor.backward, spent)),
            mock.patch.object(torch.optim.Adam, "step", timed(torch.optim.Adam.step, spent)),
            tempfile.TemporaryDirectory() as run,
        ):
            log = fit(model, objective, patches, Settings(**settings), run=run)
        # a step is three calls; of the mean, since the steps that prove the code are called too, but are not in the log
        computed = 3 * settings["steps"] * statistics.mean(spent)
        found[f"loop's share of a step, {name}"] = 1 - computed / log["seconds"].iloc[-1]
    for name in ("swinir-small-x4", "nafnet-deblur"):
        model, reference = rvlib.load(name), sample("chelsea")[:256, :256]
        (degraded, _), *_ = photo_pairs({"photo": reference}, recipes.degradation(model.task, model.scale)).values()
        scores = {
            precision: metrics.psnr(rvlib.restore(model, degraded, precision=precision), reference)
            for precision in ("bf16", "fp32")
        }
        found[f"PSNR of {name} in bf16 less that in fp32, dB"] = scores["bf16"] - scores["fp32"]
    command = [
        sys.executable,
        "-c",
        "import time; t = time.process_time(); import rvlib; print(time.process_time() - t)",
    ]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(4)]
    found["import rvlib, seconds of CPU"] = statistics.median(times[1:])
    return found


H100 = {  # milliseconds that a step is estimated to take on one (docs/paper_profile.md)
    "fsrcnn": 3,
    "srresnet": 15,
    "swinir": 101,
    "nafnet": 94,
    "diffir-s1": 480,
}


def cutting() -> pd.DataFrame:
    """Pairs of patches that one core cuts in a second, as the paper profile asks for them, and what an H100 asks for.

    The loop's share is what cutting would add to a step on the GPU if no thread cut ahead. Seconds of this process
    alone count, so that other work on the machine changes little.
    """
    photos, rows = {name: sample(name) for name in ("coffee", "chelsea", "astronaut")}, []
    for method, milliseconds in H100.items():
        stated, recipe = profiles.settings("paper", method), recipes.RECIPES[method]
        batch = stated.get("batch_size", recipe.settings.batch_size)
        with torch.device("meta"):  # its weights are not looked at
            network = rvlib.create(recipes.METHOD_OF[method].network, **recipe.arguments)
        degradation = recipes.degradation(network.task, network.scale)
        if network.scale == 1:  # the paper profile reads blurred photos
            degradation = dict(photos)
        patches = Patches(photos, degradation, patch_size=stated["patch_size"], channels=network.channels)
        patches.cut(0, batch)  # what is degraded once is degraded
        started, batches = time.process_time(), 12
        for number in range(1, batches + 1):
            patches.cut(number, batch)
        seconds = (time.process_time() - started) / batches
        rows.append(
            {
                "training": method,
                "batch": batch,
                "patch": stated["patch_size"],
                "pairs/s of one core": batch / seconds,
                "pairs/s of an H100 (estimate)": batch / milliseconds * 1000,
                "loop's share of a step": seconds / (seconds + milliseconds / 1000),
            }
        )
    return pd.DataFrame(rows)


MEMORY = """
import resource, sys
import numpy as np
import psutil
import rvlib
name, height, width = sys.argv[1], *map(int, sys.argv[2:])
photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
model = rvlib.load(name)
rvlib.restore(model, photo[:128, :128])  # libraries and their own caches are there
before = psutil.Process().memory_info().rss
restored = rvlib.restore(model, photo)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print((peak - before - restored.nbytes) / 2**20)
"""


FILES = """
import resource, sys
from pathlib import Path
import numpy as np
import psutil
from PIL import Image
import rvlib
from rvlib.batch import compared, restore_photo
name, height, width, kind, folder = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4], Path(sys.argv[5])
sample = rvlib.photos.sample("coffee")
tiles = [-(-side // part) for side, part in zip((height, width), sample.shape)]
photo = np.tile(sample, (*tiles, 1))[:height, :width]
if kind != "plain":
    photo = np.dstack([photo, np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))])
Image.fromarray(photo).save(folder / "in.png", compress_level=1)
size = photo.nbytes
del photo
model, is_compared = rvlib.load(name), kind.endswith("--compare")
Image.fromarray(sample[:128, :128]).save(folder / "small.png")
restore_photo(model, folder / "small.png", folder / "warm.png", compare=is_compared)
before = psutil.Process().memory_info().rss
restore_photo(model, folder / "in.png", folder / "out.png", compare=is_compared)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
written = compared(folder / "out.png") if is_compared else folder / "out.png"
pixels = height * width * model.scale**2
encoder = 4 * pixels * (2 if is_compared else 1) + written.stat().st_size  # Pillow's four bytes a pixel, and the file
print(peak / 2**20, (peak - before - size - 3 * pixels - encoder) / 2**20)
"""


def files() -> pd.DataFrame:
    """The same for files of 6 megapixels, beyond their encoder too: plain, with alpha, and with `--compare`."""
    rows, (height, width) = [], (2000, 3000)
    for kind in ("plain", "alpha", "alpha, --compare"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", FILES, "fsrcnn-x4", str(height), str(width), kind, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        resident, beyond = map(float, done.stdout.split())
        row = {"model": "fsrcnn-x4", "file": kind, "megapixels": height * width / 1e6}
        rows.append(row | {"MiB beyond": beyond, "MiB in all": resident})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def memory() -> pd.DataFrame:
    """Resident memory beyond photo and restored photo, in MiB: 24 megapixels, or 3, and half of these."""
    rows = []
    for name in rvlib.released():
        width, height = (6000, 4000) if name in ("fsrcnn-x4", "nafnet-deblur") else (2000, 1500)
        for side in (height // 2, height):
            command = [sys.executable, "-c", MEMORY, name, str(side), str(width)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"model": name, "megapixels": side * width / 1e6, "MiB beyond": float(done.stdout)})
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def processor() -> str:
    """The processor's name, as Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def write(table: pd.DataFrame, name: str) -> None:
    """Print a table and write it beside this file, where `11_cost` reads it, with the machine that measured it."""
    table = table.assign(processor=processor(), threads=torch.get_num_threads())
    print(f"{tables.markdown(table)}\n", flush=True)
    table.to_csv(Path(__file__).parent / f"{name}.csv", index=False, float_format="%.4g")


def main(parts: list[str]) -> None:
    """Measure, print and write: all parts, or those named."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    if "ratios" in parts:
        write(pd.DataFrame([*forwards(), *measures(), *steps()]), "ratios")
    if "overheads" in parts:
        write(pd.DataFrame([{"what": name, "value": value} for name, value in overheads().items()]), "overheads")
    if "cutting" in parts:
        write(cutting(), "cutting")
    if "memory" in parts:
        write(memory(), "memory")
    if "files" in parts:
        write(files(), "files")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ratios", "overheads", "cutting", "memory", "files"])
