"""What can be chosen by name: who guesses, how a tree grows, which branch is kept."""

from __future__ import annotations

from dataclasses import dataclass

from forerun import _core


@dataclass(frozen=True)
class Method:
    """One drafter, policy or verifier. paper: its source, "" for our own; lossless: the text cannot change.
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


def _methods(kind: str) -> list[Method]:
    return [Method(**method) for method in _core.methods()[kind]]
