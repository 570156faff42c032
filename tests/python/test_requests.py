"""Requests in a batch, on a real model, as a caller sees them."""

import asyncio

import pytest

from forerun import Engine, QueueFullError

PROMPTS = ["The first three planets are", "Once upon a time", "def add(a, b):"]


@pytest.fixture(scope="module")
def engine(smollm2_path):
    with Engine(smollm2_path, threads=2, context=512, max_batch=2, max_queue=3) as engine:
        yield engine


def test_each_request_gets_the_text_it_gets_alone(engine):
    settings = [{"sampling": {"temperature": t}, "seed": 5} for t in (0.0, 0.8, 0.0)]
    alone = [engine.generate(p, max_tokens=12, **s).text for p, s in zip(PROMPTS, settings, strict=True)]
    requests = [engine.submit(p, max_tokens=12, **s) for p, s in zip(PROMPTS, settings, strict=True)]
    assert ["".join(request) for request in requests] == alone
    assert [request.result().text for request in requests] == alone
    assert all(request.done for request in requests)


def test_requests_are_awaited_and_read_in_an_event_loop(engine):
    wanted = [engine.generate(prompt, max_tokens=8).text for prompt in PROMPTS[:2]]

    async def read(prompt):
        return "".join([piece async for piece in engine.submit(prompt, max_tokens=8)])

    async def wait(prompt):
        return (await engine.submit(prompt, max_tokens=8)).text

    async def both():
        return await asyncio.gather(read(PROMPTS[0]), wait(PROMPTS[1]))

    assert asyncio.run(both()) == wanted


def test_a_cancelled_request_says_so_and_leaves_the_others_alone(engine):
    wanted = engine.generate(PROMPTS[1], max_tokens=24).text
    dropped, kept = engine.submit(PROMPTS[0], max_tokens=400), engine.submit(PROMPTS[1], max_tokens=24)
    next(dropped)
    dropped.cancel()
    assert dropped.result(timeout=60).finish_reason == "cancelled"
    assert kept.result(timeout=60).text == wanted


def test_closing_the_engine_ends_requests_while_a_session_keeps_the_model(smollm2_path):
    with Engine(smollm2_path, threads=2, context=512, draft="none") as engine:
        session = engine.session()
        session.append(PROMPTS[0])
        request = engine.submit(PROMPTS[1], max_tokens=500)
        next(request)
    assert request.result(timeout=60).finish_reason == "cancelled"
    assert session.step()


def test_leaving_an_async_for_ends_the_request(engine):
    async def leave(request):
        async for _ in request:
            break
        await asyncio.sleep(0)

    request = engine.submit(PROMPTS[0], max_tokens=400)
    asyncio.run(leave(request))
    assert request.result(timeout=60).finish_reason == "cancelled"


def test_a_full_queue_refuses_or_makes_wait(engine):
    running = [engine.submit(PROMPTS[0], max_tokens=300) for _ in range(2)]
    for request in running:
        next(request)
    waiting = [engine.submit(PROMPTS[1], max_tokens=4) for _ in range(3)]
    with pytest.raises(QueueFullError):
        engine.submit(PROMPTS[2], max_tokens=4)
    for request in running:
        request.cancel()
    assert engine.submit(PROMPTS[2], max_tokens=4, wait=True).result(timeout=60).tokens
    assert all(request.result(timeout=60).tokens for request in waiting)


def test_a_request_that_could_never_run_is_refused(engine):
    for bad in ({"max_tokens": -1}, {"priority": "high"}, {"stop": [""]}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            engine.submit("x", **bad)
