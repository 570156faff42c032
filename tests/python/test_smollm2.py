"""The package on a real model: the whole way from a prompt to text, seen from Python."""

import threading

import pytest

from forerun import Engine

PROMPT = "List the first ten prime numbers, then list them once more."


@pytest.fixture(scope="module")
def plain(smollm2_path):
    with Engine(smollm2_path, draft="none", threads=2, context=2048) as engine:
        yield engine


@pytest.fixture(scope="module")
def speculative(smollm2_path):
    with Engine(smollm2_path, draft="ngram+recycle", threads=2, context=2048) as engine:
        yield engine


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_speculation_gives_the_same_text(plain, speculative, temperature):
    request = [{"role": "user", "content": PROMPT}]
    settings = {"max_tokens": 48, "sampling": {"temperature": temperature}, "seed": 5}
    first, second = (engine.generate(request, **settings) for engine in (plain, speculative))
    assert first.tokens == second.tokens
    assert first.text == second.text
    assert first.stats.tau == 1.0
    assert not second.stats.lossy


def test_a_stream_adds_up_to_the_completion(plain):
    with plain.stream("Ünïcödé 你好 🙂: ", max_tokens=24) as stream:
        pieces = list(stream)
    assert "".join(pieces) == stream.completion.text
    assert stream.completion.text == plain.decode(stream.completion.tokens)


def test_a_stream_can_be_left_early(plain):
    stream = plain.stream("Once upon a time", max_tokens=1000)
    next(stream)
    stream.close()
    assert stream.completion.finish_reason == "cancelled"
    assert len(stream.completion.tokens) < 100


def test_a_stop_string_ends_the_text_before_it(plain):
    whole = plain.generate("Count: 1, 2, 3,", max_tokens=24).text
    stop = whole[8:12]
    cut = plain.generate("Count: 1, 2, 3,", max_tokens=24, stop=stop)
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.index(stop)]


def test_a_session_steps_rewinds_and_forks(speculative):
    whole = speculative.generate("The quick brown fox", max_tokens=24).tokens
    session = speculative.session()
    session.append("The quick brown fox")
    start = session.length
    while session.length < start + 24:
        assert session.step(most=start + 24 - session.length)
    assert session.tokens[start:] == whole
    fork = session.fork()
    session.rewind(start)
    assert session.length == start
    assert fork.length == start + 24
    again = session.step(most=4)
    assert again == whole[: len(again)]
    assert session.text.startswith("The quick brown fox")


def test_logprobs_are_of_the_tokens_that_came(plain):
    completion = plain.generate("The capital of France is", max_tokens=4, logprobs=3)
    assert [entry["token"] for entry in completion.logprobs] == completion.tokens
    for entry in completion.logprobs:
        assert len(entry["top"]) == 3
        assert entry["top"][0] == (entry["token"], entry["logprob"])
        assert entry["logprob"] <= 0


def test_two_threads_get_the_texts_they_would_get_alone(speculative):
    prompts = ["The capital of Italy is", "Water boils at"]
    alone = [speculative.generate(prompt, max_tokens=16).text for prompt in prompts]
    together = [None, None]

    def work(index):
        together[index] = speculative.generate(prompts[index], max_tokens=16).text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_what_is_wrong_has_the_agreed_type(plain, smollm2_path, tmp_path):
    with pytest.raises(ValueError, match=r"49152|vocabulary"):
        plain.generate([10**6])
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2_path.read_bytes()[:5000])
    from forerun import ModelFileError

    with pytest.raises(ModelFileError):
        Engine(broken)


def test_one_of_many_without_ngrams_is_the_greedy_text(smollm2_path):
    with Engine(smollm2_path, draft="none", threads=2, context=512) as engine:
        wanted = engine.generate("Once upon a time", max_tokens=8).text
        assert engine.complete_many("Once upon a time", 1, max_tokens=8, ngram_weight=0)[0].text == wanted
        texts = [guess.text for guess in engine.complete_many("Once upon a time", 4, max_tokens=8)]
        assert len(set(texts)) == 4
