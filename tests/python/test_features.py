"""Hidden states and laws for training, against the NumPy decoder."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import forerun
from reference import hidden_states, linear, log_probabilities
from test_logits import config
from tiny_files import make, write_gguf

TOKENS = [int(token) for token in np.random.default_rng(7).integers(0, 256, 200)]  # several chunks


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of float weights, so that nothing is rounded but its keys and values."""
    path = tmp_path_factory.mktemp("features") / "m.gguf"
    shape = config("qwen2", layers=3)
    files, weights = make(np.random.default_rng(3), shape, "F32", "F32")
    write_gguf(path, shape, files)
    with forerun.Engine(path, draft="none", threads=2) as engine:
        yield engine, shape, weights


def test_taps_are_the_streams_of_the_reference_decoder(tiny):
    engine, shape, weights = tiny
    expected = hidden_states(shape, weights, TOKENS)
    states, ids, logprobs = engine.features(TOKENS, taps=[2, -1, 0, 1])
    assert states.dtype == np.float16
    assert states.shape == (len(TOKENS), 4 * shape["width"])
    assert ids.shape == logprobs.shape == (len(TOKENS), 0)
    for part, layer in enumerate([2, 3, 0, 1]):
        found = states[:, part * shape["width"] : (part + 1) * shape["width"]].astype(np.float64)
        error = np.abs(found - expected[layer]).max() / np.abs(expected[layer]).max()
        assert error < 2e-3, layer  # half floats keep 11 bits


def test_the_final_tap_times_the_head_is_the_law(tiny):
    engine, shape, weights = tiny
    states, ids, logprobs = engine.features(TOKENS, top_k=5)
    logits = linear(weights, "output", states.astype(np.float64))
    law = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    assert np.abs(np.take_along_axis(law, ids, 1) - logprobs).max() < 2e-2
    assert (np.diff(logprobs, axis=1) <= 0).all()
    expected = log_probabilities(shape, weights, TOKENS)
    assert np.abs(np.take_along_axis(expected, ids, 1) - logprobs).max() < 1e-2
    assert (ids[:, 0] == expected.argmax(1)).mean() > 0.98


def test_all_tokens_make_a_whole_law(tiny):
    engine, shape, _ = tiny
    _, ids, logprobs = engine.features(TOKENS[:20], taps=[], top_k=shape["vocab"])
    assert np.abs(np.exp(logprobs).sum(1) - 1).max() < 1e-5
    assert (np.sort(ids, 1) == np.arange(shape["vocab"])).all()


def test_a_text_gives_the_same_whatever_runs_beside_it(tiny):
    engine, _, _ = tiny
    alone = engine.features(TOKENS, taps=[1, -1], top_k=3)
    found = []
    thread = threading.Thread(target=lambda: found.append(engine.generate(TOKENS[:30], max_tokens=40).tokens))
    thread.start()
    beside = engine.features(TOKENS, taps=[1, -1], top_k=3)
    thread.join()
    assert all((a == b).all() for a, b in zip(alone, beside, strict=True))
    assert found[0] == engine.generate(TOKENS[:30], max_tokens=40).tokens


def test_what_the_target_does_not_have_is_refused(tiny):
    engine, shape, _ = tiny
    for taps in ([3], [-2], ["a"], "a", [10**20], 1):
        with pytest.raises(ValueError, match="tap"):
            engine.features(TOKENS, taps=taps)
    with pytest.raises(ValueError, match="top_k"):
        engine.features(TOKENS, top_k=shape["vocab"] + 1)
    with pytest.raises(ValueError, match="first_law"):
        engine._native.features(TOKENS, first_law=-1)
    with pytest.raises(ValueError, match="vocabulary"):
        engine.features([260])
    with pytest.raises(ValueError, match="context"):
        engine.features([1] * 513)
    assert engine.features([])[0].shape == (0, shape["width"])


def test_ctrl_c_is_heard_between_passes(tiny):
    engine, _, _ = tiny
    for wrong in (None, 3, "0"):
        with pytest.raises(ValueError, match="sets"):
            engine.layer_agreement(TOKENS, wrong)
    press = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    press.start()
    with pytest.raises(KeyboardInterrupt):
        engine.layer_agreement(TOKENS, [[0, 1]] * 200_000)  # minutes of passes
    assert time.monotonic() - started < 30
    assert len(engine.layer_agreement(TOKENS, [[0, 1]])) == 1


@pytest.mark.parametrize("draft", ["none", "trigram+ngram"])
def test_a_completion_brings_what_a_second_look_would_see(tiny, draft):
    engine, shape, _ = tiny
    prompts = [TOKENS[:70], TOKENS[70:73], TOKENS[10:20] * 4, TOKENS[:1]]
    with forerun.Engine(engine.info["path"], draft, record_taps=[1, -1], record_top_k=3, threads=2) as recorder:
        for prompt in (prompts[0], prompts[0]):  # what is kept of the first must not shorten the second
            recorder.generate(prompt, max_tokens=2)
        waiting = [recorder.submit(prompt, max_tokens=30) for prompt in prompts]
        for prompt, done in zip(prompts, [request.result() for request in waiting], strict=True):
            assert done.tokens == engine.generate(prompt, max_tokens=30).tokens
            text = [*prompt, *done.tokens][:-1]
            expected = engine.features(text, taps=[1, -1], top_k=3, first_law=len(prompt) - 1)
            assert expected.states.shape == (len(text), 2 * shape["width"])
            assert len(expected.top_tokens) == len(done.tokens)
            assert all((a == b).all() for a, b in zip(done.features, expected, strict=True))
            alone = recorder.generate(prompt, max_tokens=30).features
            assert all((a == b).all() for a, b in zip(alone, expected, strict=True))


def test_completions_bring_features_only_where_they_are_recorded(tiny):
    engine, shape, _ = tiny
    assert engine.generate(TOKENS[:5], max_tokens=3).features is None
    path = engine.info["path"]
    with forerun.Engine(path, draft="none", record_top_k=2) as laws:
        features = laws.generate(TOKENS[:5], max_tokens=3).features
        assert [array.shape for array in features] == [(7, 0), (3, 2), (3, 2)]
        assert laws.generate(TOKENS[:5], max_tokens=0).features.top_tokens.shape == (0, 2)
    for name, wrong in (("taps", [3]), ("taps", "a"), ("top_k", shape["vocab"] + 1), ("top_k", -1)):
        with pytest.raises(ValueError, match=name[:3]):
            forerun.Engine(path, draft="none", **{f"record_{name}": wrong})
