"""SmolLM2-135M: perplexity beside another runtime's, and the same text with every drafter."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading

import pytest

from forerun import _core
from llama_server import llama_server

pytestmark = pytest.mark.real_model

TEXT = (
    "The quick brown fox jumps over the lazy dog. Water boils at one hundred degrees at sea level, and at a lower "
    "temperature in the mountains, because the pressure of the air is lower there. In 1969 two people walked on the "
    "Moon; a third stayed in orbit. def add(a, b):\n    return a + b\n\nprint(add(2, 3))\n"
)
PROMPTS = [
    "Write a short poem about the sea and the wind. The poem should have four lines and rhyme.\n",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\ndef ",
    "List: apple, banana, cherry. Repeat the list: apple, banana, cherry. Repeat the list: apple,",
]
DRAFTS = ["ngram", "recycle", "ngram+recycle", "auto"]


def log_probability(rows: list[dict], token: int) -> float:
    return next(value for other, value in rows if other == token)


@pytest.fixture(scope="module")
def other_runtime(smollm2_path):
    return llama_server(smollm2_path, context=1024, threads=2)


def test_perplexity_is_within_one_percent_of_another_runtime(smollm2_path, other_runtime):
    engine = _core.Engine(str(smollm2_path), draft="none", threads=2)
    tokens = engine.encode(TEXT)
    assert tokens == other_runtime("/tokenize", {"content": TEXT, "add_special": True})["tokens"]
    ours = theirs = 0.0
    session = engine.session(logprobs=1000)
    for i in range(1, len(tokens)):
        session.append(tokens[len(session) : i])
        row = session.step(1)["logprobs"][0]["top"]
        session.rewind(i)
        answer = other_runtime(
            "/completion",
            {"prompt": tokens[:i], "n_predict": 1, "n_probs": 1000, "temperature": 0, "cache_prompt": True},
        )
        other = [(entry["id"], entry["logprob"]) for entry in answer["completion_probabilities"][0]["top_logprobs"]]
        known = {id for id, _ in row} & {id for id, _ in other}
        if tokens[i] in known:  # beyond the best 1000 neither list names it
            ours += log_probability(row, tokens[i])
            theirs += log_probability(other, tokens[i])
    count = len(tokens) - 1
    assert math.exp(-ours / count) == pytest.approx(math.exp(-theirs / count), rel=0.01)


@pytest.fixture(scope="module")
def plain(smollm2_path):
    engine = _core.Engine(str(smollm2_path), draft="none", threads=2)
    return {
        (i, t): engine.generate(p, max_tokens=64, sampling={"temperature": t}, seed=5)["tokens"]
        for i, p in enumerate(PROMPTS)
        for t in (0.0, 0.7, 1.0)
    }


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("draft", DRAFTS)
def test_the_text_is_that_of_plain_decoding(smollm2_path, plain, draft, threads):
    engine = _core.Engine(str(smollm2_path), draft=draft, threads=threads, fixed_draft=None if draft == "auto" else 11)
    for (i, temperature), tokens in plain.items():
        found = engine.generate(PROMPTS[i], max_tokens=64, sampling={"temperature": temperature}, seed=5)
        assert found["tokens"] == tokens, (i, temperature)
        assert draft == "auto" or found["stats"]["drafted"] > 0


@pytest.mark.parametrize("policy", ["chain", "static", "auto"])
def test_a_draft_model_never_changes_the_text(smollm2_path, plain, policy):
    engine = _core.Engine(str(smollm2_path), draft=f"model:{smollm2_path}", policy=policy, fixed_draft=6)
    accepted = 0
    for (i, temperature), tokens in plain.items():
        found = engine.generate(PROMPTS[i], max_tokens=64, sampling={"temperature": temperature}, seed=5)
        assert found["tokens"] == tokens, (i, temperature)
        accepted += found["stats"]["accepted"]
    # The draft is the target itself with the target's own noise: what it guesses is what the target says.
    assert accepted > 64 * len(plain) // 2


def test_two_threads_generate_at_once(smollm2_path, plain):
    engine = _core.Engine(str(smollm2_path), draft="auto", threads=2)
    results = {}

    def work(i: int) -> None:
        results[i] = engine.generate(PROMPTS[i], max_tokens=64, sampling={"temperature": 0.7}, seed=5)["tokens"]

    workers = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == {i: plain[(i, 0.7)] for i in (0, 1)}


SCRIPT = """
import json, sys
from forerun import _core
engine = _core.Engine(sys.argv[1], draft="none", threads=2)
found = engine.generate(sys.argv[2], max_tokens=int(sys.argv[3]), sampling={"temperature": 0.7}, seed=5)
print(json.dumps(found["tokens"]))
"""


@pytest.mark.parametrize(("isa", "count"), [("avx2", 64), ("scalar", 6)])
def test_every_instruction_set_gives_the_same_text(smollm2_path, plain, isa, count):
    if isa not in _core.cpu_info()["isas_available"]:
        pytest.skip(f"this CPU has no {isa}")
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(smollm2_path), PROMPTS[0], str(count)],
        env=os.environ | {"FORERUN_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(out.stdout) == plain[(0, 0.7)][:count]
