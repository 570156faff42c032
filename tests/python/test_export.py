"""What training writes is what the runtime reads: its drafts are those of the PyTorch model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

import forerun  # noqa: E402
from forerun.train.config import DraftConfig  # noqa: E402
from forerun.train.drafts import make_draft  # noqa: E402
from forerun.train.export import as_stored, export  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from train_twins import Chain  # noqa: E402

DEPTH = 4


def random_draft(parts, family, blocks, taps, own_head, **more):
    shape = DraftConfig(
        family,
        parts.width,
        blocks,
        heads=parts.heads,
        kv_heads=parts.kv_heads,
        head_dim=parts.head_dim,
        norm_epsilon=parts.norm_epsilon,
        taps=taps,
        own_head=own_head,
        **{"ffn_width": 96, **more},
    )
    vocabulary = torch.arange(0, parts.vocab, 2)
    draft = make_draft(shape, torch.from_numpy(parts.embedding), torch.from_numpy(parts.head), vocabulary, 7)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in draft.named_parameters():
        if "norm" in name:
            parameter.data = 1 + 0.2 * torch.randn(parameter.shape, generator=generator)
        elif name.startswith(("medusa", "hydra", "trigram")) and "head" not in name:
            scale = 0.3 if name.endswith("bias") else parameter.shape[-1] ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        elif parameter.requires_grad:
            parameter.data *= 2
    return draft


def twin_of(draft, weights):
    stored = as_stored(draft, weights)
    if not draft.config.own_head:
        stored["head.weight"] = draft.head.weight.detach().numpy()
    return Chain(stored, asdict(draft.config), draft.embedding.numpy())


@pytest.mark.parametrize(
    ("family", "blocks", "taps", "own_head", "more"),
    [
        ("dgf", 1, [-1], False, {}),
        ("dgf", 3, [-1], True, {}),
        ("eagle", 1, [-1], False, {}),
        ("eagle3", 1, [0, 1, 2], True, {}),
        ("eagle3", 2, [-1], False, {}),
        ("medusa", 0, [-1], True, {"stacks": DEPTH}),
        ("medusa", 0, [-1], False, {"stacks": DEPTH, "stack_layers": 2}),
        ("hydra", 0, [-1], False, {"stacks": DEPTH}),
        ("hydra", 1, [-1], True, {"stacks": DEPTH, "stack_layers": 4}),
        ("chimera", 1, [-1], False, {}),
        ("chimera", 1, [-1], True, {}),
        ("falcon", 1, [-1], False, {"span": 2}),
        ("falcon", 1, [-1], True, {"span": 3}),
    ],
)
def test_the_runtime_drafts_what_the_model_would(target, tmp_path, family, blocks, taps, own_head, more):
    parts = read_target(target)
    draft = random_draft(parts, family, blocks, taps, own_head, **more)
    file = tmp_path / "d.gguf"
    export(draft, parts, file, "random", weights="f16")
    tokens = [int(token) for token in np.random.default_rng(5).integers(0, 256, 40)]
    compared = 0
    options = {"threads": 1, "fixed_draft": DEPTH, "max_draft": DEPTH, "policy": "chain"}
    with forerun.Engine(target, draft=f"head:{file}", **options) as engine:
        session = engine.session()
        session.append(tokens)
        for _ in range(12):
            before = session.tokens
            emitted = session.step()
            tree = session.last_tree()
            features = engine.features(before, taps=taps)[0].astype(np.float64)
            chain = twin_of(draft, "f16")
            chain.last = list(before[:1])
            root = tree.nodes[0].token
            assert root == (before[-1] if len(tree.nodes) > 1 else root)
            for place in range(len(before) - 1):
                state = chain.row(features[place], before[place + 1], own=False)
            for depth, node in enumerate(tree.nodes[1:]):
                logits = chain.logits(state, depth)
                first, second = np.sort(logits)[-1:-3:-1]
                if first - second < 0.05 * np.abs(logits).max():
                    break  # too close to call with half-precision keys and features
                assert node.token == int(draft.draft_tokens[logits.argmax()])
                compared += 1
                state = chain.row(state, node.token, own=True)
            assert emitted
    assert compared >= 8
