"""Judge decoding, the lossy verifier: its file, what it keeps, that it says so."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from forerun import _core
from forerun.draft_file import write_draft
from test_logits import config
from tiny_files import make, write_gguf

SHAPE = config("llama", layers=2)
PROMPT = [97, 98, 97, 99, 97, 98, 97]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A target, and a draft model that seldom agrees with it."""
    folder = tmp_path_factory.mktemp("judge")
    for name, seed in (("target", 1), ("other", 2)):
        write_gguf(folder / f"{name}.gguf", SHAPE, make(np.random.default_rng(seed), SHAPE, "F32", "F32")[0])
    return folder / "target.gguf", folder / "other.gguf"


def judge_file(path, weight, bias, **changes):
    metadata = {"target.width": 256, "target.layers": 2, "target.vocab": 260, **changes}
    tensors = {"judge.weight": np.asarray(weight, np.float32), "judge.bias": np.array([bias], np.float32)}
    write_draft(path, metadata, tensors, kind="judge")
    return path


def load(models, head, draft=None, **options):
    target, other = models
    options = {f"judge.{key}": str(value) for key, value in options.items()} | {"judge.head": str(head)}
    draft = f"model:{other}" if draft is None else draft
    return forerun.Engine(
        target, draft, threads=1, fixed_draft=6, policy="chain", verify="judge", method_options=options
    )


def plain(models):
    with forerun.Engine(models[0], "none", threads=1) as engine:
        return engine.generate(PROMPT, max_tokens=24).tokens


def test_a_head_that_keeps_nothing_gives_the_plain_text_and_says_that_it_may_not(models, tmp_path):
    head = judge_file(tmp_path / "j.gguf", np.zeros(256), -1e9)
    with load(models, head) as engine:
        found = engine.generate(PROMPT, max_tokens=24)
    assert found.tokens == plain(models)
    assert found.stats.lossy
    assert found.stats.drafted > 0


def by_hand(engine, weight, bias, text, chain, threshold, most):
    """The rule in Python: tokens of a step, from hidden states and laws that are computed on their own."""
    states, top, _ = engine.features([*text, *chain], taps=[-1], top_k=1)
    emitted, in_a_row = [], 0
    for place, token in enumerate(chain):
        at = len(text) + place
        likes = 1 / (1 + np.exp(-(states[at].astype(np.float64) @ weight + bias)))
        leaf = place + 1 == len(chain)
        in_a_row = 0 if token == top[at - 1][0] else in_a_row + 1
        if in_a_row and (in_a_row > most or leaf or likes <= threshold):
            break
        emitted.append(token)
    emitted.append(int(top[len(text) + len(emitted) - 1][0]))
    ends = [place for place, token in enumerate(emitted) if token in engine.end_tokens]
    return emitted[: ends[0] + 1] if ends else emitted


def test_it_keeps_what_the_head_likes_and_nothing_else(models, tmp_path):
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(0, 0.05, 256), 0.1
    head = judge_file(tmp_path / "j.gguf", weight, bias)
    kept = stopped = 0
    with load(models, head, threshold=0.45, most_in_a_row=2) as engine:
        session = engine.session()
        session.append(PROMPT)
        for _ in range(30):
            text = list(session.tokens)
            emitted = session.step()
            chain = [node.token for node in session.last_tree().nodes[1:]]
            assert list(emitted) == by_hand(engine, weight, bias, text, chain, 0.45, 2)
            kept += len(emitted) > 1
            stopped += len(emitted) <= 2
    assert kept >= 5
    assert stopped >= 5
    with load(models, judge_file(tmp_path / "all.gguf", np.zeros(256), 9.0)) as engine:
        found = engine.generate(PROMPT, max_tokens=24)
    assert found.tokens != plain(models)
    assert found.stats.tau > 4


def test_several_sequences_are_judged_by_their_own_rows(models, tmp_path):
    head = judge_file(tmp_path / "j.gguf", np.random.default_rng(3).normal(0, 0.05, 256), 0.1)
    prompts = [PROMPT, [100, 101, 102], [7, 8, 9, 10]]
    with load(models, head, threshold=0.45) as engine:
        alone = [engine.generate(prompt, max_tokens=16).tokens for prompt in prompts]
        requests = [engine.submit(prompt, max_tokens=16) for prompt in prompts]
        assert [request.result().tokens for request in requests] == alone


def test_without_a_head_it_is_refused_with_the_reason(models):
    with pytest.raises(ValueError, match=r"judge\.head=FILE"):
        forerun.Engine(models[0], "none", threads=1, verify="judge")
    with pytest.raises(ValueError, match=r"judge\.head belongs to no method in use"):
        forerun.Engine(models[0], "none", threads=1, method_options={"judge.head": "x.gguf"})


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"format": 2}, NotImplementedError, "judge format 2, this build reads 1"),
        ({"format": None}, forerun.ModelFileError, "format"),
        ({"target.width": None}, forerun.ModelFileError, r"target\.width"),
        ({"target.width": 0}, forerun.ModelFileError, r"target\.width is 0"),
        ({"target.width": 128}, forerun.ModelFileError, r"judge\.weight"),
        ({"target.layers": 5}, ValueError, "5 layers, this one has 2"),
        ({"target.vocab": 300}, ValueError, "300 tokens, this one has 260"),
        ({"target.tokenizer": "00"}, ValueError, "another tokenizer"),
    ],
)
def test_a_file_that_is_wrong_is_refused(models, tmp_path, changes, error, reason):
    with pytest.raises(error, match=reason):
        load(models, judge_file(tmp_path / "j.gguf", np.zeros(256), 0.0, **changes))


def test_a_file_of_another_kind_or_with_broken_values_is_refused(models, tmp_path):
    with pytest.raises(forerun.ModelFileError, match="'llama', expected 'forerun-judge'"):
        load(models, models[0])
    with pytest.raises(ValueError, match="missing"):
        load(models, tmp_path / "missing.gguf")
    with pytest.raises(forerun.ModelFileError, match="not finite"):
        load(models, judge_file(tmp_path / "nan.gguf", np.full(256, np.nan), 0.0))
    head = judge_file(tmp_path / "j.gguf", np.zeros(256), 0.0)
    with pytest.raises(forerun.ModelFileError, match="'forerun-judge', expected 'forerun-draft'"):
        forerun.Engine(models[0], f"head:{head}", threads=1)
    named = judge_file(
        tmp_path / "n.gguf", np.zeros(256), 0.0, **{"target.tokenizer": _core.Tokenizer(str(models[0])).fingerprint}
    )
    load(models, named, draft="none").close()
