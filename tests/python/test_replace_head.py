"""A draft head that is replaced while its engine runs: new requests draft with it, the text stays."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from draft_reference import draft_config, random_draft, write_draft
from test_heads import PROMPT, SHAPE, TOKENS
from tiny_files import make, write_gguf


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "target.gguf"
    write_gguf(path, SHAPE, make(np.random.default_rng(21), SHAPE, "F32", "F32")[0])
    return path


def head(path, seed, family="dgf", **changes):
    c = draft_config(family, **changes)
    return write_draft(path, c, random_draft(np.random.default_rng(seed), c, TOKENS))


def drafted(session, steps=3):
    found = []
    for _ in range(steps):
        session.step()
        found.append([node.token for node in session.last_tree().nodes])
    return found


def begun(engine):
    session = engine.session()
    session.append(PROMPT)
    return session


def test_new_requests_draft_with_it_and_those_under_way_do_not(target, tmp_path):
    first = head(tmp_path / "a.gguf", 5)
    second = head(tmp_path / "b.gguf", 6, blocks=2)
    options = {"threads": 1, "fixed_draft": 5, "policy": "chain"}
    wanted = {}
    for file in (first, second):
        with forerun.Engine(target, f"head:{file}", **options) as engine:
            wanted[file] = drafted(begun(engine), 6)
            text = engine.generate(PROMPT, max_tokens=20).tokens
    with forerun.Engine(target, f"head:{first}", **options) as engine:
        old = begun(engine)
        seen = drafted(old)
        engine.replace_head(second)
        assert drafted(begun(engine), 6) == wanted[second] != wanted[first]
        assert seen + drafted(old) == wanted[first]
        assert engine.generate(PROMPT, max_tokens=20).tokens == text


def test_what_cannot_replace_it_is_refused_and_the_old_one_stays(target, tmp_path):
    first = head(tmp_path / "a.gguf", 5)
    options = {"threads": 1, "fixed_draft": 5}
    with forerun.Engine(target, f"head:{first}", **options) as engine:
        before = drafted(begun(engine))
        for file, error, reason in (
            (head(tmp_path / "t.gguf", 5, "eagle3"), ValueError, "other hidden states"),
            (head(tmp_path / "l.gguf", 5, **{"target.layers": 5}), ValueError, "5 layers, this one has 3"),
            (target, forerun.ModelFileError, "convert-draft"),
        ):
            with pytest.raises(error, match=reason):
                engine.replace_head(file)
        assert drafted(begun(engine)) == before
    with forerun.Engine(target, "ngram", threads=1) as engine, pytest.raises(ValueError, match="'ngram' has no head"):
        engine.replace_head(first)
