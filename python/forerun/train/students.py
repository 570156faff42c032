"""Small stand-alone drafts: decoders of their own with the target's vocabulary, for `draft="model:FILE"`.

Several exits make a draft of S2D (Kavehzadeh et al., arXiv 2407.01955): each exit is followed by the norm and the head
of the whole, and the runtime runs a token's row no further than to the exit that is sure enough.

They are qwen3-shaped (norms on queries and keys, tied head), since every runtime that reads GGUF can run those.
Parameters carry GGUF's tensor names with dots as they are in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from gguf.quants import quantize
from torch import Tensor, nn
from torch.nn import functional

from forerun.draft_file import WEIGHTS
from forerun.train.config import check_heads
from forerun.train.models import RmsNorm, rotate


@dataclass(frozen=True)
class StudentConfig:
    """Shapes of a student; `vocab` is the target's. exits: layers after which it may be left, ascending, the last of
    all among them; none for a plain student.
    """

    vocab: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn_width: int = 768
    norm_epsilon: float = 1e-6
    rope_base: float = 10000.0
    context: int = 2048
    exits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers: expected 1 or more, found {self.layers}")
        if self.width < 64 or self.width % 64:
            raise ValueError(f"width: expected a multiple of 64, found {self.width}")
        if self.exits and (list(self.exits) != sorted({*self.exits, self.layers}) or self.exits[0] < 1):
            raise ValueError(f"exits: expected layers from 1 that rise to the last, {self.layers}, found {self.exits}")
        check_heads(self.heads, self.kv_heads, self.head_dim)


class StudentBlock(nn.Module):
    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        width, dim = config.width, config.head_dim
        self.attn_norm = RmsNorm(width, config.norm_epsilon)
        self.attn_q = nn.Linear(width, config.heads * dim, bias=False)
        self.attn_k = nn.Linear(width, config.kv_heads * dim, bias=False)
        self.attn_v = nn.Linear(width, config.kv_heads * dim, bias=False)
        self.attn_q_norm = RmsNorm(dim, config.norm_epsilon)
        self.attn_k_norm = RmsNorm(dim, config.norm_epsilon)
        self.attn_output = nn.Linear(config.heads * dim, width, bias=False)
        self.ffn_norm = RmsNorm(width, config.norm_epsilon)
        self.ffn_gate = nn.Linear(width, config.ffn_width, bias=False)
        self.ffn_up = nn.Linear(width, config.ffn_width, bias=False)
        self.ffn_down = nn.Linear(config.ffn_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        dim = self.config.head_dim
        y = self.attn_norm(x)
        positions, base = torch.arange(x.shape[1]), self.config.rope_base
        q = rotate(self.attn_q_norm(self.attn_q(y).unflatten(-1, (-1, dim))), positions, base).transpose(1, 2)
        k = rotate(self.attn_k_norm(self.attn_k(y).unflatten(-1, (-1, dim))), positions, base).transpose(1, 2)
        v = self.attn_v(y).unflatten(-1, (-1, dim)).transpose(1, 2).to(q.dtype)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.attn_output(seen.transpose(1, 2).flatten(2))
        y = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))


class Student(nn.Module):
    def __init__(self, config: StudentConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.token_embd = nn.Embedding(config.vocab, config.width)
            self.blk = nn.ModuleList(StudentBlock(config) for _ in range(config.layers))
            self.output_norm = RmsNorm(config.width, config.norm_epsilon)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    scale = (
                        (2 * config.layers) ** -0.5 if name.endswith(("attn_output.weight", "ffn_down.weight")) else 1
                    )
                    nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, vocab] of tokens [B, T] after all layers; padding goes to the right."""
        return self.logits(self.states(tokens)[-1])

    def states(self, tokens: Tensor) -> list[Tensor]:
        """The residual stream [B, T, width] at each exit, the last one after all layers."""
        x = self.token_embd(tokens)
        found = []
        for index, block in enumerate(self.blk, 1):
            x = block(x)
            if index in self.config.exits or index == len(self.blk):
                found.append(x)
        return found

    def logits(self, state: Tensor) -> Tensor:
        return functional.linear(self.output_norm(state), self.token_embd.weight)

    @torch.no_grad()
    def write(self, prompts: list[list[int]], count: int, temperature: float, ends: set[int]) -> list[list[int]]:
        """Continues each prompt by at most `count` tokens of its own, up to an end token."""
        written = []
        for prompt in prompts:
            tokens = list(prompt)
            for _ in range(count):
                logits = self(torch.tensor([tokens[-self.config.context :]]))[0, -1].float()
                law = (logits / temperature).softmax(-1) if temperature else None
                tokens.append(int(logits.argmax() if law is None else torch.multinomial(law, 1)))
                if tokens[-1] in ends:
                    break
            written.append(tokens)
        return written


def begin_from(student: Student, run: Path) -> None:
    """Takes over the weights of an earlier run of the same shape.

    Raises ValueError for a folder that holds none.
    """
    path = run / "state.pt"
    if not path.is_file():
        raise ValueError(f"{run}: no state.pt; expected the folder of an earlier run of a student")
    weights = torch.load(path, weights_only=True).get("student")
    mine = student.state_dict()
    if weights is None:
        raise ValueError(f"{run}: holds no student; expected the folder of an earlier run of one")
    differ = [name for name in mine.keys() | weights.keys() if _shape(mine, name) != _shape(weights, name)]
    if differ:
        name = min(differ)
        raise ValueError(f"{run}: {name} is {_shape(weights, name)}, not {_shape(mine, name)}: of another shape")
    student.load_state_dict(weights)


def _shape(weights: Mapping[str, Tensor], name: str) -> list[int] | None:
    return list(weights[name].shape) if name in weights else None


def export_student(student: Student, target: Path, path: Path, name: str, weights: str = "q8_0") -> int:
    """Writes a GGUF model with the tokenizer of the target's file; returns its size in bytes."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights: expected {', '.join(WEIGHTS)}, found {weights!r}")
    config, kind = student.config, WEIGHTS[weights]
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "qwen3")
    writer.add_name(name)
    writer.add_block_count(config.layers)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_context_length(config.context)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    if config.exits:
        writer.add_array("forerun.exits", list(config.exits))
    for field in gguf.GGUFReader(target).fields.values():
        if field.name.startswith("tokenizer."):
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub)
    for key, value in student.state_dict().items():
        array = value.float().numpy()
        if array.ndim == 1:
            writer.add_tensor(key, array)
        else:
            writer.add_tensor(key, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
    return path.stat().st_size
