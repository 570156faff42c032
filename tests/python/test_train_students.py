"""Stand-alone drafts: divergences against NumPy, the runtime against PyTorch, and that distilling helps."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")

import forerun  # noqa: E402
from forerun.cli import run as command  # noqa: E402
from forerun.train.data import make_batch  # noqa: E402
from forerun.train.distill import DIVERGENCES, Distillation, acceptance, distill, divergence, loss_of, scorer  # noqa: E402
from forerun.train.shards import Sequence, write_shard  # noqa: E402
from forerun.train.students import Student, StudentConfig, begin_from, export_student  # noqa: E402
from test_logits import runtime_log_probabilities  # noqa: E402

VOCAB = 260


def student(seed=0, layers=2, exits=()):
    return Student(StudentConfig(VOCAB, 64, layers, heads=2, kv_heads=1, head_dim=32, ffn_width=96, exits=exits), seed)


def laws(rng, rows, outcomes):
    return rng.dirichlet(np.full(outcomes, 0.5), rows)


def by_hand(kind, p, q):
    middle = (p + q) / 2
    return {
        "forward": (p * np.log(p / q)).sum(1),
        "reverse": (q * np.log(q / p)).sum(1),
        "jsd": ((p * np.log(p / middle)).sum(1) + (q * np.log(q / middle)).sum(1)) / 2,
        "tvd": 1 - np.minimum(p, q).sum(1),  # a guess drawn from q is accepted with this complement
    }[kind]


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_divergences_are_those_of_the_definitions(kind):
    rng = np.random.default_rng(0)
    p, q = laws(rng, 50, 6) + 1e-4, laws(rng, 50, 6) + 1e-4
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    order = np.argsort(-p, 1)
    logits = torch.tensor(np.log(q) + rng.normal(0, 3, (50, 1)), dtype=torch.float32)
    for kept in (6, 3):
        top = order[:, :kept].copy()
        logprobs = torch.tensor(np.log(np.take_along_axis(p, top, 1)), dtype=torch.float32)
        found = divergence(kind, logits, torch.from_numpy(top), logprobs)
        lumped = [np.take_along_axis(law, top, 1) for law in (p, q)]
        if kept < 6:
            lumped = [np.concatenate([law, 1 - law.sum(1, keepdims=True)], 1) for law in lumped]
        assert np.allclose(found, by_hand(kind, *lumped), atol=1e-4)
        assert (found.numpy() <= by_hand(kind, p, q) + 1e-4).all()
    with pytest.raises(ValueError, match="divergence"):
        divergence("other", logits, torch.from_numpy(top), logprobs)


def test_the_runtime_reads_a_student_as_it_is(target, tmp_path):
    made = student(seed=3)
    for parameter in made.parameters():
        parameter.data *= 4 if parameter.ndim == 2 else 1
    path = tmp_path / "s.gguf"
    assert export_student(made, target, path, "student", weights="f16") == path.stat().st_size
    tokens = [int(token) for token in np.random.default_rng(2).integers(0, 256, 30)]
    for parameter in made.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.half().float()
    with torch.no_grad():
        expected = made(torch.tensor([tokens]))[0].log_softmax(-1).numpy()
    found = runtime_log_probabilities(path, tokens, VOCAB, kv_type="f32")
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_a_student_drafts_for_its_target(target, tmp_path):
    path = tmp_path / "s.gguf"
    export_student(student(), target, path, "student")
    with forerun.Engine(target, draft="none", threads=1) as plain:
        wanted = plain.generate("abc", max_tokens=12).tokens
    with forerun.Engine(target, draft=f"model:{path}", threads=1, fixed_draft=3) as engine:
        assert engine.generate("abc", max_tokens=12).tokens == wanted


def alternating(rng, count):
    """Texts in which b follows a and, as likely, a or c follows b."""
    found = []
    for _ in range(count):
        tokens = [0]
        while len(tokens) < 16:
            tokens.append(1 if tokens[-1] != 1 else int(rng.choice([0, 2])))
        top = np.array([[1, 0, 2] if token != 1 else [0, 2, 1] for token in tokens], np.int32)
        p = np.array([[0.98, 0.01, 0.01] if token != 1 else [0.49, 0.49, 0.02] for token in tokens])
        found.append(Sequence(np.array(tokens, np.int32), 3, np.zeros((16, 0)), top, np.log(p).astype(np.float16)))
    return found


@pytest.mark.parametrize("loss", ["text", *DIVERGENCES])
def test_distilling_raises_what_is_accepted(tmp_path, loss):
    texts = alternating(np.random.default_rng(4), 40)
    made = student(layers=1)
    before = acceptance(made, texts[:8])
    plan = Distillation(loss=loss, steps=60, rows=120, rate=2e-2, validate_every=30, bf16=False)
    after = distill(made, texts[8:], texts[:8], plan, tmp_path)[-1]
    assert before["sampled"] < 0.1
    assert after["sampled"] > 0.85, loss


@pytest.mark.parametrize("loss", ["text", "forward"])
def test_every_exit_learns_as_a_student_that_ends_there_would(tmp_path, loss):
    texts = alternating(np.random.default_rng(4), 40)
    nested = student(seed=2, layers=3, exits=(1, 3))
    batch, wanted = make_batch(texts[:5]), []
    for layers in (1, 3):
        shorter = student(layers=layers)
        shorter.load_state_dict({name: nested.state_dict()[name] for name in shorter.state_dict()})
        wanted.append(loss_of(shorter, batch, loss)[0].item())
    found, (shown, _) = loss_of(nested, batch, loss)
    assert found.item() == pytest.approx(sum(wanted), rel=1e-5)
    assert shown == pytest.approx(wanted[1], rel=1e-5)
    plan = Distillation(loss=loss, steps=60, rows=120, rate=2e-2, validate_every=60, bf16=False)
    after = distill(nested, texts[8:], texts[:8], plan, tmp_path)[-1]
    assert after["sampled_by_exit"][1] == after["sampled"]
    assert min(after["sampled_by_exit"]) > 0.85


def sure_enough(made, tokens, confidence):
    """The likeliest token at the first exit that is so sure, among the 64 likeliest, or at the last; which that is; and
    by how much all was decided.
    """
    margins = []
    with torch.no_grad():
        laws = [made.logits(state)[0, -1].double() for state in made.states(torch.tensor([tokens]))]
    for index, logits in enumerate(laws):
        first, second = logits.topk(64).values.softmax(-1)[:2].tolist()
        last = index == len(laws) - 1
        if last or first >= confidence:
            return int(logits.argmax()), index, min([*margins, first - second, 1 if last else first - confidence])
        margins.append(confidence - first)
    raise AssertionError


def test_the_runtime_leaves_a_student_where_it_is_sure_enough(target, tmp_path):
    made = student(seed=3, layers=3, exits=(1, 2, 3))
    for parameter in made.parameters():
        parameter.data = parameter.data * 6 if parameter.ndim == 2 else parameter.data
        if parameter.ndim == 2:
            parameter.data = parameter.data.half().float()
    path = tmp_path / "s.gguf"
    export_student(made, target, path, "student", weights="f16")
    prompts = np.random.default_rng(2).integers(0, 256, (6, 12)).tolist()
    seen, left = 0, set()
    for confidence in (0.1, 0.2, 0.3):
        settings = {"threads": 1, "fixed_draft": 4, "policy": "chain"}
        options = {"model.confidence": str(confidence)}
        with forerun.Engine(target, f"model:{path}", method_options=options, **settings) as engine:
            for prompt in prompts:
                session = engine.session()
                session.append(prompt)
                for _ in range(3):
                    text = list(session.tokens)
                    session.step()
                    for node in session.last_tree().nodes[1:]:
                        wanted, exit_index, clear = sure_enough(made, text, confidence)
                        if clear < 0.01:
                            break  # too close to call with half-precision keys
                        assert node.token == wanted
                        text.append(node.token)
                        seen += 1
                        left.add(exit_index)
    assert seen > 30
    assert left == {0, 1, 2}


def test_exits_are_layers_that_rise_to_the_last():
    for exits in ((0, 2), (2, 1), (1,), (1, 3), (1, 1, 2)):
        with pytest.raises(ValueError, match="exits"):
            student(layers=2, exits=exits)


def test_shapes_and_runs_that_are_none_are_refused(tmp_path):
    for shape, name in (({"layers": 0}, "layers"), ({"width": 100}, "width"), ({"width": 0}, "width")):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            StudentConfig(**{"vocab": VOCAB, "width": 64, "layers": 2, **shape})
    for wrong in ({"steps": 0}, {"rate": float("nan")}, {"own": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Distillation(**wrong)
    with pytest.raises(ValueError, match=r"no state\.pt"):
        begin_from(student(), tmp_path)
    torch.save({"draft": {}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="holds no student"):
        begin_from(student(), tmp_path)
    torch.save({"student": student(layers=3).state_dict()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="of another shape"):
        begin_from(student(), tmp_path)
    torch.save({"student": student(seed=4).state_dict()}, tmp_path / "state.pt")
    begin_from(made := student(), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), student(seed=4).parameters(), strict=True))


def test_a_seed_repeats_and_a_stopped_run_goes_on(tmp_path):
    texts = alternating(np.random.default_rng(5), 20)
    plan = Distillation(steps=6, rows=60, validate_every=3)
    logs = []
    for name in ("a", "b"):
        logs.append(distill(student(), texts[4:], texts[:4], plan, tmp_path / name))
    assert logs[0] == logs[1]

    made, calls = student(), []
    look = made.states

    def states(tokens):
        calls.append(1)
        if len(calls) == 3 + 4 + 2:  # three batches, four validations, then in the fifth batch
            raise RuntimeError
        return look(tokens)

    made.states = states
    with pytest.raises(RuntimeError):
        distill(made, texts[4:], texts[:4], plan, tmp_path / "c")
    assert distill(student(), texts[4:], texts[:4], plan, tmp_path / "c") == logs[0]
    with pytest.raises(ValueError, match="other settings"):
        distill(student(), texts[4:], texts[:4], Distillation(steps=7, rows=60), tmp_path / "c")


def test_on_policy_the_target_scores_what_the_draft_writes(target, tmp_path):
    texts = alternating(np.random.default_rng(6), 6)
    plan = Distillation(loss="jsd", steps=2, rows=26, own=1.0, most_own=5, validate_every=2)
    scored = []
    with forerun.Engine(target, draft="none", threads=1) as engine:
        look = scorer(engine, 3)

        def score(tokens, learn_from):
            scored.append((tokens, learn_from))
            return look(tokens, learn_from)

        distill(student(), texts[1:], texts[:1], plan, tmp_path, score)
        found = look([5, 6, 7], 1)
    assert found.top_tokens.shape == (3, 3)
    assert all(learn_from == 3 and 3 < len(tokens) <= 8 for tokens, learn_from in scored)
    assert len(scored) >= 4
    with pytest.raises(ValueError, match="scored by the target"):
        distill(student(), texts[1:], texts[:1], plan, tmp_path / "other")


def test_what_a_student_writes_is_its_own_choice_and_ends():
    made = student(seed=1)
    (greedy,) = made.write([[1, 2, 3]], 6, 0.0, set())
    with torch.no_grad():
        for length in range(3, 9):
            assert greedy[length] == int(made(torch.tensor([greedy[:length]]))[0, -1].argmax())
    assert made.write([[1, 2, 3]], 6, 0.0, {greedy[3]})[0] == greedy[:4]


def test_the_command_makes_a_model(target, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "shard-00000.safetensors", alternating(np.random.default_rng(7), 10), [], "m.gguf")
    file = tmp_path / "s.gguf"
    options = ["--width", "64", "--layers", "2", "--exits", "1,2", "--steps", "2", "--rows", "60", "--held-out", "5"]
    assert command(["train", "student", str(target), str(tmp_path / "data"), str(file), *options]) == 0
    assert "0.1 MB" in capsys.readouterr().out
    assert forerun.Engine(file, draft="none", threads=1).info["architecture"] == "qwen3"
