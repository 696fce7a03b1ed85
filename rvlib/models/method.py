"""The record of a method: all that the study knows about it besides its network, in one place."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.keys import Recognised
from rvlib.settings import Recipe


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of the study. `rvlib.models.METHODS` lists them; everything else that names methods reads that table."""

    key: str
    """Its name in commands, files and columns: "srresnet". Names of weights begin with it: "srresnet-x4"."""

    title: str
    """Its name in tables and figures for reading: "SRResNet"."""

    paper: str
    """What to cite: "Ledig et al. 2017, Photo-Realistic Single Image Super-Resolution Using a GAN"."""

    colour: int | str
    """Its colour in every figure: an index into seaborn's palette "colorblind", of ten, or a colour of matplotlib's."""

    tasks: tuple[str, ...]
    """What it undoes: "super-resolution", "deblurring", "denoising", "jpeg"."""

    builder: Callable[..., RestorationModel]
    """The class or function that builds its network from keyword arguments, the paper's hyper-parameters."""

    recognise: Callable[..., Recognised | None]
    """(state_dict, hints by keyword) -> its network's name, arguments and state, or None if they are another's.

    Methods of one family share it. What the weights cannot tell are keyword-only arguments with defaults.
    """

    network: str = ""
    """The network's name for `create`, which files of weights store: the key, unless it is another method's network."""

    variants: dict[str, dict] = field(default_factory=dict)
    """Arguments of the official configurations, by the name that `create` takes as `variant`."""

    notes: dict[str, str] = field(default_factory=dict)
    """What the card of a variant's weights must say, where the method's name alone would mislead: by variant."""

    recipes: dict[str, Recipe] = field(default_factory=dict)
    """How it is trained, by the name that `recipes.train` takes: usually one recipe of the method's own name."""

    def __post_init__(self):
        if "-" in self.key:
            raise UserError(f"{self.key}: a key has no hyphen, which ends it in the names of weights (KEY-x4)")
        object.__setattr__(self, "network", self.network or self.key)

    @property
    def hints(self) -> tuple[str, ...]:
        """What `rvlib.load` may be told about this method's weights, since they cannot tell it."""
        parameters = inspect.signature(self.recognise).parameters.values()
        return tuple(each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY)
