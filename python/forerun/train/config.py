"""What a draft is, as the draft file's metadata says it (docs/formats.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

FAMILIES = ("dgf", "eagle", "eagle3")
FINAL = -1  # the tap of the target's hidden state after its final norm


@dataclass(frozen=True)
class DraftConfig:
    """Shapes of a draft. taps: target hidden states it reads, -1 the final one, l >= 0 the input of layer l.

    own_head: the file holds a trained head; otherwise rows of the target's head are used. draft_vocab: rows of the
    head, the likeliest tokens of the training answers.
    """

    family: str
    width: int
    blocks: int = 1
    heads: int = 9
    kv_heads: int = 3
    head_dim: int = 64
    ffn_width: int = 1536
    norm_epsilon: float = 1e-5
    rope_base: float = 10000.0
    taps: list[int] = field(default_factory=lambda: [FINAL])
    own_head: bool = False
    draft_vocab: int = 8192

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, found {self.family!r}")
        if not 1 <= self.blocks <= 6:
            raise ValueError(f"blocks: expected 1 to 6, found {self.blocks}")
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"kv_heads: expected a divisor of heads ({self.heads}), found {self.kv_heads}")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim: expected an even number (rotary halves), found {self.head_dim}")
        if self.family != "eagle3" and self.taps != [FINAL]:
            raise ValueError(f"taps: {self.family} reads the final hidden state only, [-1], found {self.taps}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
