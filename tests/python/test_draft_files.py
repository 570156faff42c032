"""Draft files that are malformed, or were made for another target, are refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from draft_reference import draft_config, random_draft, write_draft
from forerun import _core
from test_logits import config
from tiny_files import make, write_gguf

SHAPE = config("qwen2", layers=3)
TOKENS = np.arange(0, 120, 2)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "target.gguf"
    write_gguf(path, SHAPE, make(np.random.default_rng(21), SHAPE, "F32", "F32")[0])
    return path


def load(target, draft):
    forerun.Engine(target, f"head:{draft}", threads=1, fixed_draft=4).close()


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"family": "hope"}, NotImplementedError, "dgf, eagle, eagle3, medusa, hydra, kangaroo, chimera, falcon"),
        ({"format": 2}, NotImplementedError, "format 2"),
        ({"format": None}, forerun.ModelFileError, "format"),
        ({"family": None}, forerun.ModelFileError, "family"),
        ({"taps": None}, forerun.ModelFileError, "taps"),
        ({"taps": [3]}, forerun.ModelFileError, "taps"),
        ({"taps": [-2]}, forerun.ModelFileError, "taps"),
        ({"taps": [0]}, forerun.ModelFileError, "after the final norm"),
        ({"taps": [-1, -1]}, forerun.ModelFileError, "taps"),
        ({"taps": "all"}, forerun.ModelFileError, "taps"),
        ({"width": 128}, forerun.ModelFileError, "width"),
        ({"width": 0}, forerun.ModelFileError, "width"),
        ({"blocks": 0}, forerun.ModelFileError, "blocks"),
        ({"blocks": 7}, forerun.ModelFileError, "blocks"),
        ({"blocks": 2}, forerun.ModelFileError, r"block\.1"),
        ({"kv_heads": 3}, forerun.ModelFileError, "kv_heads"),
        ({"head_dim": 31}, forerun.ModelFileError, "head_dim"),
        ({"heads": 1 << 20, "kv_heads": 1, "head_dim": 1024}, forerun.ModelFileError, "heads"),
        ({"norm_epsilon": -1.0}, forerun.ModelFileError, "norm_epsilon"),
        ({"rope_base": 0.0}, forerun.ModelFileError, "rope_base"),
        ({"target.layers": 5}, ValueError, "5 layers, this one has 3"),
        ({"target.vocab": 300}, ValueError, "300 tokens, this one has 260"),
        ({"target.tokenizer": "00"}, ValueError, "another tokenizer"),
        ({"target.width": 128, "width": 128}, ValueError, "128 values a hidden state, this one has 256"),
    ],
)
def test_metadata_that_is_wrong_is_refused(target, tmp_path, changes, error, reason):
    c = draft_config("dgf")
    draft = write_draft(tmp_path / "d.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS), **changes)
    with pytest.raises(error, match=reason):
        load(target, draft)


@pytest.mark.parametrize("span", [None, 0, 1, 5, "two"])
def test_a_span_that_no_draft_has_is_refused(target, tmp_path, span):
    c = draft_config("falcon", span=2)
    draft = write_draft(tmp_path / "d.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS), span=span)
    with pytest.raises(forerun.ModelFileError, match="span"):
        load(target, draft)


def test_a_draft_of_the_same_tokenizer_is_taken(target, tmp_path):
    c = draft_config("dgf", **{"target.tokenizer": _core.Tokenizer(str(target)).fingerprint})
    load(target, write_draft(tmp_path / "d.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS)))


@pytest.mark.parametrize("tokens", [[3, 2, 9], [1, 1, 2], [-1, 4], [5, 260], [], [[1, 2]], list(range(261))])
def test_a_draft_vocabulary_that_is_not_ascending_token_ids_is_refused(target, tmp_path, tokens):
    c = draft_config("dgf")
    tensors = random_draft(np.random.default_rng(5), c) | {"draft_tokens": np.array(tokens, np.int32)}
    with pytest.raises(forerun.ModelFileError, match=r"draft_tokens|shape|tensor"):
        load(target, write_draft(tmp_path / "d.gguf", c, tensors))


def test_a_model_is_no_draft_head_and_a_head_is_no_model(target, tmp_path):
    with pytest.raises(forerun.ModelFileError, match="convert-draft"):
        load(target, target)
    c = draft_config("dgf")
    draft = write_draft(tmp_path / "d.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS))
    with pytest.raises(forerun.ModelFileError, match="head:"):
        forerun.Engine(draft, "none")


@pytest.mark.parametrize("family", ["dgf", "eagle", "eagle3", "hydra", "chimera", "falcon"])
def test_every_tensor_must_be_there_with_its_shape_and_no_other(target, tmp_path, family):
    c = draft_config(
        family, **{"hydra": {"stacks": 2}, "chimera": {}, "falcon": {"span": 2}}.get(family, {"blocks": 2})
    )
    tensors = random_draft(np.random.default_rng(5), c, TOKENS, own_head=True)
    load(target, write_draft(tmp_path / "whole.gguf", c, tensors))
    needed = [name for name in tensors if not name.endswith((".bias", "head.weight"))]
    cases = [(name, "gone", {n: v for n, v in tensors.items() if n != name}) for name in needed]
    for name, value in tensors.items():
        for axis in range(value.ndim):
            for more in (-1, 1):
                shape = list(value.shape)
                shape[axis] += more
                cases.append((name, f"{shape}", tensors | {name: np.resize(value, shape)}))
    cases.append(("norm.bias", "added", tensors | {"norm.bias": np.zeros(256, np.float32)}))
    foreign = "token_norm.weight" if family in ("hydra", "chimera") else "block.0.attn_norm.weight"
    cases.append((foreign, "added", tensors | {foreign: np.ones(256, np.float32)}))
    for name, change, damaged in cases:
        with pytest.raises(forerun.ModelFileError) as raised:
            load(target, write_draft(tmp_path / "d.gguf", c, damaged))
        assert str(raised.value), (name, change)


def test_damaged_files_are_refused_or_draft_something_but_never_crash(target, tmp_path):
    c = draft_config("eagle3", width=32, heads=1, kv_heads=1, ffn_width=32)
    whole = write_draft(tmp_path / "d.gguf", c, random_draft(np.random.default_rng(5), c, TOKENS, True)).read_bytes()
    header = whole.index(b"norm.weight") + 3000  # names, sizes and offsets; what follows are weights
    rng, refused = np.random.default_rng(2), 0
    for _ in range(150):
        data = bytearray(whole if rng.integers(4) else whole[: rng.integers(len(whole))])
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(min(header, len(data)))] = rng.choice([0, 1, 255, rng.integers(256)])
        (tmp_path / "bad.gguf").write_bytes(data)
        try:
            with forerun.Engine(target, f"head:{tmp_path / 'bad.gguf'}", threads=1, fixed_draft=4) as engine:
                engine.generate([1, 2, 3], max_tokens=4)
        except (forerun.ModelFileError, ValueError, NotImplementedError):
            refused += 1
    assert refused > 75
