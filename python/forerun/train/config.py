"""What a draft is, as the draft file's metadata says it (docs/formats.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

STACKED = ("medusa", "hydra")  # a stack of its own for every depth
FAMILIES = ("dgf", "eagle", "eagle3", *STACKED, "kangaroo", "chimera", "falcon")
FINAL = -1  # the tap of the target's hidden state after its final norm
IN_TENSORS = ("own_head", "draft_vocab", "stacks", "stack_layers")  # what a draft file's tensors say of a DraftConfig
REACH = 12  # columns of padding on the right of a batch; unrolled steps + 1 must not exceed it


@dataclass(frozen=True)
class DraftConfig:
    """Shapes of a draft. taps: target hidden states it reads, -1 the final one, l >= 0 the input of layer l; of
    kangaroo the number of the target's layers before it. ffn_width 0, in kangaroo: blocks of attention only.

    own_head: the file holds a trained head; otherwise rows of the target's head are used. draft_vocab: rows of the
    head, the likeliest tokens of the training answers. stacks: depths that medusa and hydra guess at, each by
    `stack_layers` layers; blocks are then Hydra++'s over the text, none or one. span: tokens that a forward guesses; of
    falcon more than one.
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
    stacks: int = 0
    stack_layers: int = 1
    span: int = 1

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, found {self.family!r}")
        stacked = self.family in STACKED
        least, most = (int(not stacked), {"medusa": 0, "hydra": 1, "chimera": 1, "falcon": 1}.get(self.family, 6))
        if not least <= self.blocks <= most:
            raise ValueError(f"blocks: expected {least} to {most} of {self.family}, found {self.blocks}")
        if not stacked <= self.stacks <= 8 * stacked:
            raise ValueError(f"stacks: expected {'1 to 8' if stacked else '0'} of {self.family}, found {self.stacks}")
        if self.stack_layers < 1:
            raise ValueError(f"stack_layers: expected 1 or more, found {self.stack_layers}")
        spans = (2, 4) if self.family == "falcon" else (1, 1)
        if not spans[0] <= self.span <= spans[1]:
            raise ValueError(f"span: expected {spans[0]} to {spans[1]} of {self.family}, found {self.span}")
        check_heads(self.heads, self.kv_heads, self.head_dim)
        if self.ffn_width < 1 and self.family != "kangaroo":
            raise ValueError(f"ffn_width: expected 1 or more of {self.family}, found {self.ffn_width}")
        if self.family == "kangaroo":
            if len(self.taps) != 1 or self.taps[0] < 1:
                raise ValueError(f"taps: kangaroo leaves the target before one layer from 1 on, found {self.taps}")
        elif self.family != "eagle3" and self.taps != [FINAL]:
            raise ValueError(f"taps: {self.family} reads the final hidden state only, [-1], found {self.taps}")

    @property
    def fixed_unroll(self) -> int:
        """The unrolled steps that it has to learn from; 0: as many as one likes."""
        return 1 if self.family == "kangaroo" else self.stacks

    @property
    def tokens_read(self) -> int:
        """The tokens that a row, or a span of them, reads: the last one and those before it."""
        return 3 if self.family == "chimera" else 2 * self.span - 1

    @property
    def head_inputs(self) -> int:
        """The values that are multiplied with the head's rows."""
        return 2 * self.width if self.family == "chimera" and self.own_head else self.width

    def metadata(self) -> dict[str, Any]:
        """What the draft file says of it; the target's part comes from the target."""
        found = asdict(self)
        for name in IN_TENSORS:
            del found[name]
        if self.span == 1:
            del found["span"]
        if not self.blocks:
            for name in ("heads", "kv_heads", "head_dim", "ffn_width", "norm_epsilon", "rope_base"):
                del found[name]
        if self.family == "eagle3":
            found["norm_before_residual"] = False
        return found


def check_heads(heads: int, kv_heads: int, head_dim: int) -> None:
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"kv_heads: expected a divisor of heads ({heads}), found {kv_heads}")
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim: expected an even number (rotary halves), found {head_dim}")
