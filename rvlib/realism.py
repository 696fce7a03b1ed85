"""Between what is true and what looks true: networks between one trained on pixels and what a discriminator made of it.

An adversarial loss trains a generator G on from a network P that was trained on pixels, and every network in between
restores too: θ = (1 - r) θ_P + r θ_G (Wang et al. 2018, ESRGAN, section 3.4). r = 0 has the best PSNR, r = 1 the most
detail, true or not.
"""

from rvlib.checkpoint import load
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel

PAIRS = (
    ("srresnet-x4", "srgan-x4"),
    ("official/swinir-real-m-x4-psnr", "official/swinir-real-m-x4"),
    ("official/swinir-real-l-x4-psnr", "official/swinir-real-l-x4"),
    ("official/msrresnet-x4", "official/msrresnet-gan-x4"),
    ("official/mmediting-srresnet-x4", "official/mmediting-srgan-x4"),
    ("official/lornatang-srresnet-x4", "official/lornatang-srgan-x4"),
)
"""Weights trained on pixels, and those that an adversarial loss made of them, by the names that `load` takes."""


def mixed(name: str, realism: float, **options) -> RestorationModel:
    """The network between the two of a pair, either of which may be named: 0 is the one, 1 is the other.

    `options` are those of `load`. Raises UserError for a name without a pair and for a `realism` outside of 0 to 1.
    """
    if not 0 <= realism <= 1:
        raise UserError(f"realism lies between 0 (true to the pixels) and 1 (adversarial), and {realism} does not")
    pair = next((pair for pair in PAIRS if name in pair), None)
    if pair is None:
        known = ", ".join(adversarial for _, adversarial in PAIRS)
        raise UserError(f"{name} has no partner to mix it with, as --realism needs: choose one of {known}")
    model, adversarial = (load(each, **options) for each in pair)
    theirs = adversarial.state_dict()
    mine = model.state_dict()
    if {key: value.shape for key, value in mine.items()} != {key: value.shape for key, value in theirs.items()}:
        raise UserError(f"{pair[0]} and {pair[1]} are no longer one architecture: they cannot be mixed")
    numbers = {key: value for key, value in mine.items() if value.is_floating_point()}
    model.load_state_dict({**mine, **{key: value.lerp(theirs[key], realism) for key, value in numbers.items()}})
    model.method = adversarial.method
    model.source = {**model.source, "file": f"{pair[0]} + {realism:g} ({pair[1]} - {pair[0]})", "sha256": ""}
    return model
