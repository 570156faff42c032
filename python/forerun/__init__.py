"""forerun: speculative decoding that never changes the text.

A target model writes; something cheaper runs ahead of it; the target checks many guessed tokens in one
forward pass and keeps only what it would have written itself. `Engine` is the way in.
"""

from forerun._core import ModelFileError, QueueFullError, __version__
from forerun.engine import Engine
from forerun.methods import Method, drafters, optimal_acceptance, policies, verifiers
from forerun.models import PullError
from forerun.placement import Plan, Plans, plan
from forerun.profile import Profile
from forerun.request import Request
from forerun.session import Session
from forerun.stream import Stream
from forerun.types import Alternative, Completion, Features, Sampling, Stats, StepTree, TreeNode

__all__ = [
    "Alternative",
    "Completion",
    "Engine",
    "Features",
    "Method",
    "ModelFileError",
    "Plan",
    "Plans",
    "Profile",
    "PullError",
    "QueueFullError",
    "Request",
    "Sampling",
    "Session",
    "Stats",
    "StepTree",
    "Stream",
    "TreeNode",
    "__version__",
    "drafters",
    "optimal_acceptance",
    "plan",
    "policies",
    "verifiers",
]
