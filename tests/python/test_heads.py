"""Draft heads against their NumPy twins, through the trees that they draft."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from draft_reference import Twin, draft_config, random_draft, write_draft
from reference import hidden_states
from test_logits import config
from tiny_files import make, write_gguf

PROMPT = [97, 98, 32, 99, 100, 101, 10, 97, 98, 99, 200, 13, 65, 66]
SHAPE = config("qwen2", layers=3)
# 64 tokens at most, so that the drafter's candidates are the whole law.
TOKENS = np.sort(np.random.default_rng(11).choice(260, 60, replace=False))
CASES = {
    "dgf": (draft_config("dgf"), False),
    "dgf of 3 blocks": (draft_config("dgf", blocks=3, heads=6, kv_heads=3), False),
    "dgf with a head of its own": (draft_config("dgf", rope_base=500.0), True),
    "eagle": (draft_config("eagle", bias=True), False),
    "eagle without bias": (draft_config("eagle"), True),
    "eagle3": (draft_config("eagle3"), True),
    "eagle3 with the target's head": (draft_config("eagle3", taps=[0, 2]), False),
    "eagle3 of 2 blocks": (draft_config("eagle3", blocks=2, norm_before_residual=True), True),
    "medusa": (draft_config("medusa", blocks=0, stacks=3), True),
    "medusa with the target's head": (draft_config("medusa", blocks=0, stacks=4), False),
    "hydra": (draft_config("hydra", blocks=0, stacks=3), True),
    "hydra with a block over the text": (draft_config("hydra", stacks=3), False),
    "chimera": (draft_config("chimera"), True),
    "chimera with the target's head": (draft_config("chimera"), False),
    "falcon": (draft_config("falcon", span=2), False),
    "falcon of 3 tokens": (draft_config("falcon", span=3), True),
    "eagle3 narrower than the target": (draft_config("eagle3", width=128, taps=[1, -1]), True),
}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A target of float weights: path and the reference's weights."""
    path = tmp_path_factory.mktemp("heads") / "target.gguf"
    files, weights = make(np.random.default_rng(21), SHAPE, "F32", "F32")
    write_gguf(path, SHAPE, files)
    return path, weights


def twin_of(weights, c, tensors) -> Twin:
    return Twin(c, tensors, weights.values["token_embd.weight"], weights.values["output.weight"])


def states_of(weights, c: dict, text: list[int]) -> np.ndarray:
    """The target's states that the draft reads, a row per token of `text`."""
    all_states = hidden_states(SHAPE, weights, text)
    return np.concatenate([all_states[tap] for tap in c["taps"]], -1)  # index -1: after the final norm


def largest_error(tree: dict, twin: Twin, text: list[int], states: np.ndarray) -> float:
    """Of the scores of a tree's nodes, which are q given the parent. text: up to the root."""
    error, chains, twin.before_text = 0.0, {0: []}, text[0]
    for index, node in enumerate(tree["nodes"]):
        if index == 0:
            continue
        above = chains[node["parent"]]
        law = twin.law(text[1:], states[: len(text) - 1], above)
        chains[index] = [*above, node["token"]]
        error = max(error, abs(law[list(twin.tokens).index(node["token"])] - node["score"]))
    return error


def trees(path, draft, steps: int = 4, policy: str = "eagle2", prompt: list[int] = PROMPT, **options):
    """Draft trees of some steps, each with the text before it."""
    with forerun.Engine(path, f"head:{draft}", threads=1, fixed_draft=7, policy=policy, **options) as engine:
        session = engine.session()
        session.append(prompt)
        for _ in range(steps):
            text = list(session.tokens)
            session.step()
            yield text, session.last_tree()


def to_dict(tree) -> dict:
    return {"nodes": [{"token": n.token, "parent": n.parent, "score": n.score} for n in tree.nodes]}


@pytest.mark.parametrize("case", CASES)
def test_a_head_drafts_what_its_twin_says(target, tmp_path, case):
    path, weights = target
    c, own_head = CASES[case]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    draft = write_draft(tmp_path / "draft.gguf", c, tensors)
    twin = twin_of(weights, c, tensors)
    deepest = 0
    for text, tree in trees(path, draft):
        assert len(tree.nodes) == 8
        assert largest_error(to_dict(tree), twin, text, states_of(weights, c, text)) < 2e-3
        deepest = max(deepest, *(depth(tree, i) for i in range(len(tree.nodes))))
    assert deepest >= 2


@pytest.mark.parametrize("case", ["falcon", "falcon of 3 tokens"])
def test_spans_follow_one_another_down_a_chain(target, tmp_path, case):
    path, weights = target
    c, own_head = CASES[case]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    draft = write_draft(tmp_path / "draft.gguf", c, tensors)
    twin = twin_of(weights, c, tensors)
    for prompt in (PROMPT, PROMPT[:2], PROMPT[:3]):  # shorter than what a span reads
        for text, tree in trees(path, draft, policy="chain", prompt=prompt):
            assert depth(tree, 7) == 7
            assert largest_error(to_dict(tree), twin, text, states_of(weights, c, text)) < 2e-3


def depth(tree, node: int) -> int:
    return 0 if node == 0 else 1 + depth(tree, tree.nodes[node].parent)


@pytest.mark.parametrize("case", ["dgf", "eagle3", "chimera", "falcon"])
def test_the_comparison_sees_a_wrong_tap_an_unshifted_token_and_a_missing_norm(target, tmp_path, case):
    path, weights = target
    c, own_head = CASES[case]
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head)
    draft = write_draft(tmp_path / "draft.gguf", c, tensors)
    twin = twin_of(weights, c, tensors)
    text, tree = next(iter(trees(path, draft, 1)))
    right = states_of(weights, c, text)
    assert largest_error(to_dict(tree), twin, text, right) < 2e-3
    other_tap = states_of(weights, c | {"taps": [1] * len(c["taps"])}, text)
    assert largest_error(to_dict(tree), twin, text, other_tap) > 0.02
    assert largest_error(to_dict(tree), twin, [0, *text[:-1]], right) > 0.02
    for name in [name for name in tensors if "norm" in name]:
        changed = twin_of(weights, c, tensors | {name: np.ones_like(tensors[name])})
        assert largest_error(to_dict(tree), changed, text, right) > 5e-3, name


def test_recording_beside_a_head_changes_neither_drafts_nor_text(target, tmp_path):
    path, _ = target
    c = draft_config("eagle3", taps=[0, 2])
    draft = write_draft(tmp_path / "draft.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS, True))
    options = {"fixed_draft": 5, "threads": 1}
    with forerun.Engine(path, f"head:{draft}", **options) as engine:
        expected = engine.generate(PROMPT, max_tokens=24)
        shown = engine.features([*PROMPT, *expected.tokens][:-1], taps=[-1, 1], top_k=2, first_law=len(PROMPT) - 1)
    with forerun.Engine(path, f"head:{draft}", record_taps=[-1, 1], record_top_k=2, **options) as engine:
        found = engine.generate(PROMPT, max_tokens=24)
    assert found.tokens == expected.tokens
    assert (found.stats.steps, found.stats.drafted) == (expected.stats.steps, expected.stats.drafted)
    assert found.stats.drafted > 24
    assert all((a == b).all() for a, b in zip(found.features, shown, strict=True))
