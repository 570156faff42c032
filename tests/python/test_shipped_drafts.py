"""The drafts that come with the project: small enough, made for their target, and of use."""

from __future__ import annotations

import re
import shutil

import pytest

import forerun
from forerun import compare, models
from forerun.draft_file import draft_weights, read_draft
from forerun.draft_names import resolve_draft

PROMPTS = [
    "Explain in two paragraphs why the sky looks blue during the day and red in the evening.",
    "Write a short story about a gardener who finds a map under an old tree.",
    "Give me five tips for a good night's sleep.",
]


@pytest.mark.real_model
def test_the_draft_of_smollm2_guesses_its_answers(smollm2_path, repository):
    file = repository / "python" / "forerun" / "heads" / "smollm2-135m.gguf"
    assert file.stat().st_size <= 8_000_000
    options = {"context": 512, "prefix_cache_bytes": 0}
    taus = []
    with (
        forerun.Engine(smollm2_path, draft="none", **options) as plain,
        forerun.Engine(smollm2_path, draft=f"head:{file}", fixed_draft=6, **options) as drafted,
    ):
        for prompt in PROMPTS:
            messages = [{"role": "user", "content": prompt}]
            found = drafted.generate(messages, max_tokens=96)
            assert found.tokens == plain.generate(messages, max_tokens=96).tokens
            taus.append(found.stats.tau)
    assert sum(taus) / len(taus) > 1.5, taus


def test_drafts_of_larger_targets_are_what_their_page_says(repository):
    page = (repository / "drafts" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(.+)` \| (.+)$", page, re.MULTILINE))
    files = {file.name: file for file in (repository / "drafts").glob("*.gguf")}
    assert files.keys() == rows.keys()
    for name, file in files.items():
        metadata, tensors = read_draft(file)
        weights = draft_weights(file).upper()
        blocks = f"{metadata['family'].upper()}, {metadata['blocks']} block of {metadata['ffn_width']}"
        head = "a head of its own" if "head.weight" in tensors else "the target's head"
        assert f" | {blocks}, {len(tensors['draft_tokens'])} tokens, {head}, {weights} |" in rows[name]
        assert file.stat().st_size <= 40_000_000


def test_a_head_that_is_missing_is_named_with_those_there_are(cache):
    models.heads_dir().mkdir(parents=True)
    (models.heads_dir() / "mine.gguf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unknown head 'nosuch'.*known names: mine, smollm2-135m"):
        resolve_draft("suffix+head:nosuch")
    for path in ("no/such.gguf", "such.gguf"):
        with pytest.raises(forerun.ModelFileError, match=rf"{path}: no such file"):
            resolve_draft(f"head:{path}")
    assert resolve_draft("head:mine") == f"head:{models.heads_dir() / 'mine.gguf'}"


@pytest.mark.real_model
def test_auto_takes_the_head_that_was_made_for_the_target(smollm2_path):
    with forerun.Engine(smollm2_path, context=256) as engine:
        assert engine.info["drafters"] == list(compare.AUTO)
    with forerun.Engine(smollm2_path, draft="recycle+head:smollm2-135m", context=256) as engine:
        assert engine.info["drafters"] == ["recycle", "head"]


@pytest.mark.real_model
def test_heads_beside_the_models_are_found_by_auto_and_by_name(smollm2_path, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("FORERUN_CACHE", str(tmp_path))
    monkeypatch.setattr("forerun.draft_names.HEADS", tmp_path / "nothing")
    with forerun.Engine(smollm2_path, context=256) as engine:
        assert engine.info["drafters"] == ["suffix", "trigram"]
    folder = models.heads_dir()
    folder.mkdir(parents=True)
    shutil.copy(repository / "python" / "forerun" / "heads" / "smollm2-135m.gguf", folder / "mine.gguf")
    whole = (folder / "mine.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "gone.gguf").symlink_to(tmp_path / "nowhere.gguf")
    with forerun.Engine(smollm2_path, context=256) as engine:
        assert engine.info["drafters"] == ["suffix", "trigram", "head"]
    with forerun.Engine(smollm2_path, draft="head:mine", context=256) as engine:
        assert engine.info["draft"] == f"head:{folder / 'mine.gguf'}"
