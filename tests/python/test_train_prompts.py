"""Prompts, texts and answers to train on; no PyTorch needed."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from forerun.train.answers import answers, read_answers
from forerun.train.own_prompts import invent, own_prompts
from forerun.train.prompts import Prompt, compose, given
from forerun.train.texts import documentation, excerpts, permissive, standard_library


def test_one_seed_gives_one_list_and_a_longer_one_begins_with_it():
    first = list(compose(40, seed=3))
    assert first == list(compose(60, seed=3))[:40]
    assert first != list(compose(40, seed=4))
    assert [prompt.index for prompt in first] == list(range(40))


def test_prompts_are_of_every_kind_varied_and_complete():
    prompts = list(compose(2000))
    kinds = Counter(prompt.kind for prompt in prompts)
    assert len(kinds) == 12
    assert min(kinds.values()) >= 20
    assert len({prompt.text for prompt in prompts}) > 1900
    assert not any("{" in prompt.text or "  " in prompt.text.replace("\n    ", "") for prompt in prompts)


def test_the_share_of_greedy_answers_is_as_asked():
    for greedy in (0.0, 0.25, 1.0):
        temperatures = [prompt.temperature for prompt in compose(2000, greedy=greedy)]
        assert abs(sum(t == 0 for t in temperatures) / 2000 - greedy) < 0.04
        assert all(t == 0 or 0.7 <= t <= 1.0 for t in temperatures)
    with pytest.raises(ValueError, match="greedy"):
        next(compose(1, greedy=2))


def test_the_texts_to_read_can_be_given():
    texts = [f"A text about number {index}." for index in range(5)]
    read = [prompt.text for prompt in compose(300, passages=texts) if prompt.kind in ("summary", "context")]
    assert read
    assert all("A text about number" in text for text in read)


def test_prompts_of_a_file_are_taken_as_they_are(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "One?"}\n\n{"prompt": "Two {x}?", "id": 7}\n')
    found = list(given(path, seed=3))
    assert [(prompt.index, prompt.text) for prompt in found] == [(0, "One?"), (2, "Two {x}?")]
    assert found == list(given(path, seed=3)) != list(given(path, seed=4))
    for wrong in ("{", '"text"', '{"text": "a"}', '{"prompt": 3}', '{"prompt": " "}'):
        path.write_text('{"prompt": "a"}\n' + wrong)
        with pytest.raises(ValueError, match=r"p\.jsonl: line 2"):
            list(given(path))


class Answering:
    """An engine that answers a prompt by its own length; it counts requests, and fails at one of them."""

    def __init__(self, fail_at=None):
        self.asked, self.fail_at, self.running, self.most = [], fail_at, 0, 0
        self.info = {"context": 4096}

    def render(self, messages):
        return messages[0]["content"]

    def encode(self, text, add_special):
        assert not add_special
        return list(text.encode())

    def submit(self, tokens, *, max_tokens, sampling, seed, wait):
        if self.fail_at == len(self.asked):
            raise RuntimeError("stopped")
        self.asked.append((tokens, sampling, seed))
        self.running += 1
        self.most = max(self.most, self.running)
        outer = self

        class Pending:
            def result(self):
                outer.running -= 1
                return type("Completion", (), {"tokens": [len(tokens) % 7, max_tokens], "features": "seen"})

        assert wait
        return Pending()


def test_answers_are_written_in_order_and_taken_up_where_they_ended(tmp_path):
    path = tmp_path / "answers.jsonl"
    prompts = list(compose(30, seed=1))
    with pytest.raises(RuntimeError):
        list(answers(Answering(fail_at=17), prompts, path, 9, 4, 4096))
    held = len(list(read_answers(path)))
    assert 0 < held < 17
    with path.open("a") as out:
        out.write('{"index":99,"kin')  # cut off in the middle of a line
    engine = Answering()
    texts = list(answers(engine, prompts, path, 9, 4, 4096))
    assert len(engine.asked) == 30 - held
    assert engine.most == 8
    found = list(read_answers(path))
    assert [(text.tokens, text.learn_from) for text in texts] == [(a.tokens, a.prompt_length) for a in found]
    assert [text.recorded for text in texts] == [None] * held + ["seen"] * (30 - held)
    assert [answer.index for answer in found] == list(range(30))
    for answer, prompt in zip(found, prompts, strict=True):
        text = list(prompt.text.encode())
        assert answer.tokens == [*text, len(text) % 7, 9]
        assert answer.prompt_length == len(text)
    for (_, sampling, seed), prompt in zip(engine.asked, prompts[held:], strict=True):
        assert (sampling or {"temperature": 0})["temperature"] == prompt.temperature
        assert seed == prompt.seed


@pytest.mark.parametrize(("context", "most_tokens"), [(4096, 12), (12, 4096)])
def test_prompts_without_room_for_an_answer_are_left_out(tmp_path, capsys, context, most_tokens):
    engine = Answering()
    engine.info["context"] = context
    prompts = [Prompt(index, "given", "x" * length, 0.0, 0) for index, length in enumerate((10, 11, 3))]
    found = list(answers(engine, prompts, tmp_path / "a.jsonl", 9, 4, most_tokens))
    assert [text.learn_from for text in found] == [10, 3]
    assert "a.jsonl: left out 1 prompts of more than 10 tokens" in capsys.readouterr().err


def test_only_packages_of_permissive_licences_are_read(tmp_path):
    def package(name, licences, files):
        folder = tmp_path / name
        folder.mkdir()
        header = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        (folder / "copyright").write_text(header + "".join(f"\nFiles: *\nLicense: {one}\n text\n" for one in licences))
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder

    package("a", ["Expat", "BSD-3-clause and public-domain"], {"README.md": b"free a", "a.png": b"no text"})
    package("b", ["MIT"], {"NEWS.Debian.gz": gzip.compress(b"free b"), "README": b"\xff\xfe"})
    package("c", ["MIT", "GPL-2+"], {"README": b"not c"})
    package("d", [], {"README": b"not d"})
    package("e", ["Apache-2.0 or GPL-2"], {"README": b"not e"})
    (tmp_path / "f").symlink_to(tmp_path / "a")
    (tmp_path / "g").mkdir()
    assert list(documentation(tmp_path)) == ["free a", "free b"]
    assert not permissive(tmp_path / "g" / "copyright")
    assert list(documentation(tmp_path / "absent")) == []


def test_the_standard_library_is_read_without_its_tests(tmp_path):
    for name in ("a.py", "test/b.py", "json/c.py", "site-packages/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(standard_library(tmp_path)) == ["a.py", "json/c.py"]
    assert any("def dumps(" in text for text in standard_library())


def test_excerpts_begin_with_a_line_and_follow_the_seed():
    text = "".join(f"line {index:04}\n" for index in range(300))
    found = excerpts(iter([text, "short"]), 20, 150, 0)
    assert found == excerpts(iter([text, "short"]), 20, 150, 0)
    assert all(piece.startswith("line ") and 0 < len(piece) <= 150 and piece in text for piece in found)
    assert len(set(found)) > 10
    assert excerpts(iter([]), 3, 100, 0) == []


def test_the_command_prints_prompts_as_json(capsys):
    from forerun.cli import run

    assert run(["train", "prompts", "3", "--seed", "5"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [prompt.text for prompt in compose(3, seed=5)]


def test_training_without_pytorch_says_what_to_install(monkeypatch, capsys, tmp_path):
    import sys

    from forerun.cli import run

    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(["train", "draft", "m.gguf", str(tmp_path), str(tmp_path / "d.gguf")]) == 2
    assert "pip install 'forerun[train]'" in capsys.readouterr().err


def test_the_package_imports_no_pytorch_by_itself():
    import subprocess
    import sys

    code = "import sys, forerun.cli, forerun.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class Inventing:
    """A chat model that completes any prompt by its seed: every third text does not end, every seventh is blank."""

    def __init__(self, template="<user>{}</user>"):
        self.template, self.asked = template, []

    def render(self, messages):
        return self.template.format(messages[0]["content"])

    def encode(self, text, add_special):
        assert not add_special
        return list(text.encode())

    def submit(self, tokens, *, max_tokens, sampling, seed, wait):
        assert wait and sampling["temperature"] == 1.0 and max_tokens > 0
        self.asked.append((bytes(tokens).decode(), seed))
        text = "  " if seed % 7 == 0 else f" question {seed}\n"
        reason = "length" if seed % 3 == 0 else "stop"
        completion = type("Completion", (), {"tokens": [1, 2], "text": text, "finish_reason": reason})
        return type("Pending", (), {"result": lambda self: completion})()


def test_a_model_makes_up_prompts_from_its_template_up_to_the_user():
    engine = Inventing()
    made = list(invent(engine, 0, 60, seed=5, batch=4))
    assert {text for text, _ in engine.asked} == {"<user>"}
    seeds = [seed for _, seed in engine.asked]
    assert len(set(seeds)) == 60
    good = [(index, seed) for index, seed in enumerate(seeds) if seed % 3 and seed % 7]
    assert [(prompt.index, prompt.text) for prompt in made] == [(index, f"question {seed}") for index, seed in good]
    assert {prompt.kind for prompt in made} == {"own"}
    assert 0 < sum(prompt.temperature == 0 for prompt in made) < len(made)
    assert made == list(invent(Inventing(), 0, 60, seed=5, batch=9))
    assert made != list(invent(Inventing(), 0, 60, seed=6, batch=4))


def test_made_up_prompts_are_kept_and_only_missing_ones_are_made(tmp_path):
    path = tmp_path / "prompts.jsonl"
    first = own_prompts(Inventing(), path, 30, seed=5)
    with path.open("a") as out:
        out.write('{"index":99,"kin')  # cut off in the middle of a line
    engine = Inventing()
    both = own_prompts(engine, path, 60, seed=5)
    assert both == list(invent(Inventing(), 0, 60, seed=5))
    assert both[: len(first)] == first
    assert len(engine.asked) == 60 - (first[-1].index + 1)
    assert own_prompts(Inventing(), path, 30, seed=5) == first


def test_a_template_that_hides_the_user_is_refused():
    with pytest.raises(ValueError, match="chat template"):
        next(invent(Inventing("no room"), 0, 3))
