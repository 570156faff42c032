"""Online Speculative Decoding: a draft follows its target into another domain, and the text stays what it was."""

from __future__ import annotations

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

import forerun  # noqa: E402
from forerun.draft_file import draft_weights, read_draft, write_draft  # noqa: E402
from forerun.train.config import DraftConfig  # noqa: E402
from forerun.train.data import make_batch  # noqa: E402
from forerun.train.drafts import make_draft  # noqa: E402
from forerun.train.export import export  # noqa: E402
from forerun.train.online import Online, OnlinePlan, recording  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from forerun.train.unroll import Objective, batch_loss, steps  # noqa: E402
from test_train_models import sequence, tiny  # noqa: E402

OPTIONS = {"threads": 1, "fixed_draft": 3, "policy": "chain", "context": 256}


def new_draft(target, path, weights="q8_0"):
    parts = read_target(target)
    shape = {"heads": parts.heads, "kv_heads": parts.kv_heads, "head_dim": parts.head_dim, "ffn_width": 96}
    config = DraftConfig("dgf", parts.width, 1, norm_epsilon=parts.norm_epsilon, own_head=True, **shape)
    embedding, head = torch.from_numpy(parts.embedding), torch.from_numpy(parts.head)
    export(make_draft(config, embedding, head, torch.arange(parts.vocab), 0), parts, path, "d", weights)
    return path


def domain(seed, low):
    """Prompts over some of the tokens."""
    rng = np.random.default_rng(seed)
    return [[int(token) for token in rng.integers(low, low + 30, 8)] for _ in range(8)]


def answers(engine, prompts):
    return [engine.generate(prompt, max_tokens=48) for prompt in prompts]


def accepted(found):
    return sum(one.stats.accepted for one in found) / sum(one.stats.drafted for one in found)


def test_acceptance_rises_after_a_change_of_domain_and_no_text_changes(target, tmp_path):
    draft = new_draft(target, tmp_path / "d.gguf")
    first, second = domain(1, 20), domain(2, 120)
    with forerun.Engine(target, "none", threads=1, context=256) as plain:
        wanted = {id(prompts): [one.tokens for one in answers(plain, prompts)] for prompts in (first, second)}
    rates = []
    with (
        forerun.Engine(target, f"head:{draft}", **OPTIONS) as engine,
        Online(engine, target, draft, tmp_path / "run", OnlinePlan(every=4, steps=12, rate=3e-3)) as online,
    ):
        for prompts in (first, first, second, second):
            found = answers(engine, prompts)
            assert [one.tokens for one in found] == wanted[id(prompts)]
            rates.append(accepted(found))
            for prompt, one in zip(prompts, found, strict=True):
                online.observe([*prompt, *one.tokens], len(prompt))
            online.flush()
        rates.append(accepted(answers(engine, second)))
        assert online.updates >= 8
    untrained, followed, shifted, _, back = rates
    assert max(untrained, shifted) < 0.1  # a random target's texts have nothing in common
    assert min(followed, back) > 0.3
    assert read_draft(tmp_path / "run" / "draft.gguf")[0]["family"] == "dgf"


def test_what_was_recorded_is_learnt_as_a_second_look_is(target, tmp_path):
    draft, plan = new_draft(target, tmp_path / "d.gguf"), OnlinePlan(every=4, steps=2, top_k=5)
    files = []
    for name, options in (("looked", {}), ("recorded", recording(draft, plan))):
        with (
            forerun.Engine(target, f"head:{draft}", **OPTIONS, **options) as engine,
            Online(engine, target, draft, tmp_path / name, plan) as online,
        ):
            found = answers(engine, domain(1, 20))
            if options:
                engine.features = None  # nothing is read again
            for prompt, one in zip(domain(1, 20), found, strict=True):
                online.observe([*prompt, *one.tokens], len(prompt), one.features)
            online.flush()
            assert online.updates == 2
        files.append((tmp_path / name / "draft.gguf").read_bytes())
    assert files[0] == files[1]
    assert len(read_draft(draft)[1]) and files[0] != draft.read_bytes()


def test_features_of_another_shape_are_refused(target, tmp_path):
    draft = new_draft(target, tmp_path / "d.gguf")
    with forerun.Engine(target, f"head:{draft}", **OPTIONS, record_taps=[-1], record_top_k=3) as engine:
        one = engine.generate([5, 6, 7], max_tokens=8)
        with Online(engine, target, draft, tmp_path / "run") as online:
            text = [5, 6, 7, *one.tokens]
            with pytest.raises(ValueError, match=r"tokens of shape \(8, 16\), found \(10, 256\) and \(8, 3\)"):
                online.observe(text, 3, one.features)
            with pytest.raises(ValueError, match=r"states of shape \(11, 256\) .* found \(10, 256\)"):
                online.observe([5, *text], 4, one.features)
            with pytest.raises(ValueError, match=r"tokens of shape \(7, 16\), found"):
                online.observe(text, 4, one.features)
            online.observe(text[:4], 3, one.features)  # cancelled: nothing of it could be learnt
            assert not online._texts


def test_ctrl_c_is_not_for_the_training_process_and_a_closed_one_says_so(target, tmp_path):
    draft = new_draft(target, tmp_path / "d.gguf")
    with forerun.Engine(target, f"head:{draft}", **OPTIONS) as engine:
        online = Online(engine, target, draft, tmp_path / "run", OnlinePlan(every=1))
        assert os.getpgid(online._process.pid) != os.getpgid(0)
        online.observe(list(range(10)), 2)
        online.flush()
        assert online.updates == 1
        online.close()
        online.observe(list(range(10)), 2)
        with pytest.raises(RuntimeError, match="closed; 1 texts are not learnt from"):
            online.flush()


@pytest.mark.parametrize("weights", ["q8_0", "q4_1", "f16"])
def test_new_drafts_keep_the_weights_of_the_first(target, tmp_path, weights):
    draft = new_draft(target, tmp_path / "d.gguf", weights)
    assert draft_weights(draft) == weights
    with (
        forerun.Engine(target, f"head:{draft}", **OPTIONS) as engine,
        Online(engine, target, draft, tmp_path / "run", OnlinePlan(every=1)) as online,
    ):
        online.observe(list(range(10)), 2)
        online.flush()
    assert draft_weights(tmp_path / "run" / "draft.gguf") == weights


def test_what_cannot_be_learnt_from_is_refused_and_a_failure_is_told(target, tmp_path):
    draft = new_draft(target, tmp_path / "d.gguf")
    metadata, tensors = read_draft(draft)
    with forerun.Engine(target, f"head:{draft}", **OPTIONS) as engine:
        with pytest.raises(forerun.ModelFileError, match="expected 'forerun-draft'"):
            Online(engine, target, target, tmp_path / "run")
        write_draft(tmp_path / "other.gguf", metadata | {"target.layers": 4}, tensors, weights="f16")
        with pytest.raises(ValueError, match=r"target\.layers is 4, the target has 3"):
            Online(engine, target, tmp_path / "other.gguf", tmp_path / "run")
        with Online(engine, target, draft, tmp_path / "run", OnlinePlan(every=1)) as online:
            online._process.terminate()
            online._process.wait()
            online.observe(list(range(10)), 2)
            with pytest.raises(RuntimeError, match="online training has ended"):
                online.flush()
    with pytest.raises(ValueError, match="every"):
        OnlinePlan(every=65)


def test_the_buffer_is_bounded_and_loses_the_oldest(target, tmp_path):
    draft = new_draft(target, tmp_path / "d.gguf")
    with forerun.Engine(target, f"head:{draft}", **OPTIONS) as engine:
        online = Online(engine, target, draft, tmp_path / "run", OnlinePlan(every=4, waiting=4))
        online._changed.acquire()  # nothing is taken meanwhile
        try:
            for number in range(9):
                online.observe([number] * 5, 2)
            online.observe([1, 2], 2)  # nothing of it could be learnt
            assert [text.tokens[0] for text in online._texts] == [5, 6, 7, 8]
        finally:
            online._changed.release()
            online.close()


def test_only_rows_that_were_guessed_wrong_are_learnt_from():
    draft = tiny("dgf")
    batch = make_batch([sequence(np.random.default_rng(3), 12, 2), sequence(np.random.default_rng(4), 9, 3)])
    with torch.no_grad():
        (_, columns, state), *_ = steps(draft, batch, 1)
        best = draft.draft_tokens[draft.logits(state, 0).argmax(-1)]
    batch.tokens[0, columns[1:4] + 2] = best[0, 1:4]  # three guesses are right
    batch.tokens[1, columns[0] + 2] = best[1, 0]
    found, _ = batch_loss(draft, batch, Objective(unroll=1, law=0.0, text=1.0, only_rejected=True))
    token, _, _, counts = batch.wanted(0, columns)
    with torch.no_grad():
        (_, _, state), *_ = steps(draft, batch, 1)
    logits, rows = draft.logits(state, 0), draft.row_of[token]
    learn = counts & (rows >= 0) & (logits.argmax(-1) != rows)
    wanted = torch.nn.functional.cross_entropy(logits[learn], rows[learn])
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert learn.sum() < (counts & (rows >= 0)).sum()
