"""forerun: speculative decoding that never changes the text.

A target model writes; something cheaper runs ahead of it; the target checks many guessed tokens in one
forward pass and keeps only what it would have written itself. `Engine` is the way in.
"""

from importlib.metadata import PackageNotFoundError, version

from forerun._core import ModelFileError
from forerun.engine import Engine, Session
from forerun.models import PullError
from forerun.stream import Stream
from forerun.types import Completion, Sampling, Stats

try:
    __version__ = version("forerun")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "Completion",
    "Engine",
    "ModelFileError",
    "PullError",
    "Sampling",
    "Session",
    "Stats",
    "Stream",
    "__version__",
]
