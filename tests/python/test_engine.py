import gc
import signal
import threading
import time

import numpy as np
import pytest

import forerun
from forerun import Engine, Sampling
from forerun.checks import check_count, check_text


@pytest.fixture
def engine(fake, model_file):
    with Engine(model_file, draft="none") as engine:
        yield engine


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.005)


def test_generate_returns_text_tokens_reason_and_stats(engine):
    completion = engine.generate("x", max_tokens=5)
    assert completion.text == "abcde"
    assert completion.tokens == [97, 98, 99, 100, 101]
    assert completion.finish_reason == "length"
    assert completion.stats.tokens_per_second == 5.0
    assert completion.stats.tokens_per_second_total == pytest.approx(5 / 1.5)


def test_pieces_of_a_stream_add_up_to_the_completion(engine):
    stream = engine.stream("x", max_tokens=30)
    assert stream.completion is None
    pieces = list(stream)
    assert "" not in pieces
    assert "".join(pieces) == stream.completion.text
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("way", ["close", "with", "drop", "exception", "engine"])
def test_native_work_ends_when_the_consumer_stops(engine, way):
    type(engine.native).step_seconds = 0.002
    native = engine.native
    stream = engine.stream("x", max_tokens=100_000)
    next(stream)
    if way == "close":
        stream.close()
        stream.close()
        assert stream.completion.finish_reason == "cancelled"
    elif way == "with":
        with stream:
            next(stream)
    elif way == "exception":
        with pytest.raises(KeyError), stream:
            raise KeyError
    elif way == "engine":
        engine.close()
        list(stream)
        assert stream.completion.finish_reason == "cancelled"
    del stream
    gc.collect()
    wait_until(lambda: native.running == 0)


def test_a_stream_may_be_closed_by_another_thread(engine):
    native = type(engine.native)
    native.step_seconds = 0.2  # the reader waits nearly always
    stream, pieces = engine.stream("x", max_tokens=100_000), []
    reader = threading.Thread(target=lambda: pieces.extend(stream))
    reader.start()
    wait_until(lambda: pieces or engine.native.running == 1)
    stream.close()
    assert engine.native.running == 0
    reader.join(timeout=5)
    assert not reader.is_alive()
    assert stream.completion.finish_reason == "cancelled"
    stream.close()


def test_a_signal_handler_may_close_the_stream_that_is_read(engine):
    native = type(engine.native)
    native.step_seconds, native.interrupts_at = 0.002, 3
    stream = engine.stream("x", max_tokens=100_000)
    before = signal.signal(signal.SIGINT, lambda *_: stream.close())
    try:
        text = "".join(stream)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stream.completion.text.startswith(text)
    assert stream.completion.finish_reason == "cancelled"


def test_a_stream_never_asked_for_a_piece_starts_no_work(engine):
    stream = engine.stream("x")
    stream.close()
    assert engine.native.calls == []
    assert stream.completion is None


def test_an_error_of_the_native_side_reaches_the_consumer(engine):
    type(engine.native).fails_at = 2
    stream = engine.stream("x")
    assert [next(stream), next(stream)] == ["a", "b"]
    with pytest.raises(RuntimeError, match="the device is gone"):
        next(stream)


def test_ctrl_c_interrupts_generate(engine):
    native = type(engine.native)
    native.step_seconds, native.interrupts_at = 0.002, 3
    with pytest.raises(KeyboardInterrupt):
        engine.generate("x", max_tokens=100_000)
    assert engine.native.running == 0


def test_two_threads_generate_at_once_on_one_engine(engine):
    type(engine.native).step_seconds = 0.001
    texts = []
    threads = [
        threading.Thread(target=lambda: texts.append(engine.generate("x", max_tokens=26).text)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["abcdefghijklmnopqrstuvwxyz"] * 2


def test_prompts_are_text_ids_arrays_or_messages(engine):
    engine.generate("text", max_tokens=1)
    engine.generate([1, 2], max_tokens=1)
    engine.generate(np.array([3, 4], dtype=np.int32), max_tokens=1)
    engine.generate([], max_tokens=1)
    engine.generate([{"role": "user", "content": "hi"}], max_tokens=1)
    prompts = [call["prompt"] for call in engine.native.calls]
    assert prompts[:4] == ["text", [1, 2], [3, 4], []]
    assert bytes(prompts[4]) == b"<|user|>hi$<|assistant|>"
    assert engine.native.encoded == [("<|user|>hi$<|assistant|>", False)]


@pytest.mark.parametrize(
    "prompt", [b"bytes", 7, {"role": "user"}, ["a"], [1.5], [True], [1, {}], [10**20], [-(10**20)], "caf\udce9"]
)
def test_other_prompts_are_refused(engine, prompt):
    with pytest.raises(ValueError, match="prompt"):
        engine.generate(prompt)


def test_messages_without_a_chat_template_are_refused(fake, model_file):
    fake.template = ""
    with Engine(model_file) as engine, pytest.raises(ValueError, match="no chat template"):
        engine.generate([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", None),
        ("max_tokens", 2**31),
        ("seed", -1),
        ("seed", 2**64),
        ("logprobs", -1),
        ("logprobs", 10**30),
        ("stop", [""]),
        ("stop", [3]),
        ("stop", 5),
        ("stop", None),
        ("stop", b"x"),
        ("stop", "\ud800"),
        ("tenant", 7),
        ("sampling", {"temprature": 1}),
        ("sampling", 0.5),
    ],
)
def test_bad_arguments_are_refused_by_name_before_any_work(engine, name, value):
    with pytest.raises(ValueError, match=name):
        engine.stream("x", **{name: value})
    assert engine.native.calls == []


@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True])
def test_sampling_refuses_what_is_not_a_finite_number(field, value):
    with pytest.raises(ValueError, match=field):
        Sampling(**{field: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_k": 1.0},
        {"top_k": 2**40},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": [1]},
    ],
)
def test_sampling_refuses_values_out_of_range(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Sampling(**settings)


def test_sampling_reaches_the_native_side_whole(engine):
    engine.generate("x", sampling={"temperature": 0.5, "logit_bias": {3: -1.0}}, stop="z", seed=9)
    call = engine.native.calls[0]
    assert call["sampling"] == {
        "temperature": 0.5,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logit_bias": {3: -1.0},
    }
    assert (call["stop"], call["seed"]) == (["z"], 9)


def test_a_draft_names_kinds_and_models(fake, model_file, cache):
    with Engine(model_file, draft=f"ngram+model:{model_file}+recycle") as engine:
        assert engine.native.draft == f"ngram+model:{model_file}+recycle"


@pytest.mark.parametrize("draft", ["", "bogus", "ngram+", "model:", "ngram+bogus", None])
def test_an_unknown_draft_is_refused(model_file, draft):
    with pytest.raises(ValueError, match="draft"):
        Engine(model_file, draft=draft)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0),
        ("context", -5),
        ("context", 2**31),
        ("threads", "two"),
        ("prefix_cache_bytes", 2**63),
        ("policy", None),
        ("verify", 3),
        ("device", None),
        ("kv_type", b"f16"),
        ("method_options", "ngram.max=3"),
    ],
)
def test_options_of_the_engine_are_checked_by_name(fake, model_file, name, value):
    with pytest.raises(ValueError, match=name):
        Engine(model_file, **{name: value})


def test_bounds_are_named_and_open_ones_only_where_they_are_crossed():
    with pytest.raises(ValueError, match=r"n: expected an integer from 1 up, found 0$"):
        check_count("n", 0, low=1)
    with pytest.raises(ValueError, match=r"n: expected an integer from 1 to 2147483647, found 2147483648$"):
        check_count("n", 2**31, low=1)
    with pytest.raises(ValueError, match=r"n: expected an integer from 1 to 5, found 6$"):
        check_count("n", 6, low=1, high=5)
    check_count("n", 2**31 - 1, low=1)


def test_text_that_is_not_utf_8_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"prompt: not valid UTF-8: '\\udce9' at character 3"):
        check_text("prompt", "caf\udce9")


def test_a_closed_engine_says_so(fake, model_file):
    engine = Engine(model_file)
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.generate("x")
    assert "closed" in repr(engine)


@pytest.mark.parametrize("choice", [{"policy": "bush"}, {"verify": "hope"}, {"method_options": {"match.colour": 1}}])
def test_an_unknown_method_or_option_is_refused(model_file, choice):
    with pytest.raises(ValueError, match=r"bush|hope|colour"):
        Engine(model_file, **choice)


def test_what_can_be_chosen_is_listed():
    assert {"ngram", "recycle", "model"} <= {method.name for method in forerun.drafters()}
    assert "chain" in {method.name for method in forerun.policies()}
    match = next(method for method in forerun.verifiers() if method.name == "match")
    assert match.lossless
    assert match.summary
