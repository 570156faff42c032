"""What can be chosen by name: who guesses, how a tree grows, which branch is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forerun import _core


@dataclass(frozen=True)
class Method:
    """One drafter, policy or verifier. paper: its source, "" for our own; lossless: what is
    written is distributed as the target's own text; verify "match" keeps the text itself.
    grown: of a drafter, whether its tree grows by a policy."""

    name: str
    summary: str
    paper: str
    lossless: bool
    grown: bool = False


def drafters() -> list[Method]:
    """Names for `Engine(draft=...)`."""
    return _methods("drafters")


def policies() -> list[Method]:
    """Names for `Engine(policy=...)`."""
    return _methods("policies")


def verifiers() -> list[Method]:
    """Names for `Engine(verify=...)`."""
    return _methods("verifiers")


def optimal_acceptance(p: Sequence[float], q: Sequence[float], n: int = 1, *, replacement: bool = False) -> float:
    """The most that any lossless verifier can accept at a node whose n children are drawn from q, in [0, 1].

    p, q: weights of the target and of the draft over the same tokens; they need not sum to 1.
    n: draws. replacement: independent draws; else each without the tokens drawn before it.

    The dual of the transport problem between draws and target (Hu et al., arXiv 2502.18779): what a verifier
    accepts, divided by it, is how much of the possible it gets. O(V log V); without replacement O(300 V n).

    Raises ValueError for lengths that differ, negative weights, sums of 0, and n below 1.
    """
    return _core.optimal_acceptance(p, q, n, replacement)


def _methods(kind: str) -> list[Method]:
    return [Method(**method) for method in _core.methods()[kind]]
