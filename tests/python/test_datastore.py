"""Datastores and saved drafts from Python, and the tenants of requests."""

import pytest

from forerun import Engine, ModelFileError
from forerun.cli import run

PROMPT = "The quick brown fox"


def test_saving_needs_a_drafter_that_learns_and_passes_the_path_on(fake, model_file, tmp_path):
    fake.save_drafts = lambda self, path: self.calls.append(path)
    with Engine(model_file) as engine:
        engine.save_drafts(tmp_path / "x.drafts")
    assert fake.made[-1].calls == [str(tmp_path / "x.drafts")]


@pytest.mark.real_model
def test_a_datastore_built_from_files_is_drafted_from(smollm2_cache, tmp_path, capfd):
    with Engine("smollm2-135m", draft="none", context=512) as engine:
        plain = engine.generate(PROMPT, max_tokens=32)
    text, store = tmp_path / "text.txt", tmp_path / "text.store"
    text.write_text(f"Something else.\n{PROMPT}{plain.text}\n")
    assert run(["datastore", "build", str(store), str(text), "--tokenizer", "smollm2-135m", "--lines"]) == 0
    assert "tokens of 1 files" in capfd.readouterr().out
    with Engine("smollm2-135m", draft=f"retrieval:{store}", fixed_draft=8, context=512) as engine:
        found = engine.generate(PROMPT, max_tokens=32)
    assert found.text == plain.text
    assert found.stats.accepted > 8
    store.write_bytes(store.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="content"):
        Engine("smollm2-135m", draft=f"retrieval:{store}")


@pytest.mark.real_model
def test_saved_drafts_help_the_same_tenant_of_a_later_engine(smollm2_cache, tmp_path):
    path = tmp_path / "learnt.drafts"
    with Engine("smollm2-135m", draft="suffix", fixed_draft=8, context=512) as engine:
        first = engine.generate(PROMPT, max_tokens=32, tenant="anna")
        engine.save_drafts(path)
    options = {"suffix.state": path}
    with Engine("smollm2-135m", draft="suffix", fixed_draft=8, context=512, method_options=options) as engine:
        other = engine.generate(PROMPT, max_tokens=32, tenant="bert")
        same = engine.generate(PROMPT, max_tokens=32, tenant="anna")
    assert first.text == other.text == same.text
    assert same.stats.steps < other.stats.steps
    path.write_bytes(path.read_bytes().replace(b"anna", b"anno"))
    with pytest.raises(ModelFileError, match="damaged"):
        Engine("smollm2-135m", draft="suffix", method_options=options)
    with Engine("smollm2-135m", draft="ngram") as engine, pytest.raises(ValueError, match="no drafter in use learns"):
        engine.save_drafts(path)


@pytest.mark.real_model
def test_requests_of_a_batch_have_tenants_too(smollm2_cache):
    steps = {}
    with Engine("smollm2-135m", draft="suffix", fixed_draft=8, context=512) as engine:
        for tenant in ("anna", "bert", "anna"):
            found = engine.submit(PROMPT, max_tokens=32, tenant=tenant).result()
            steps.setdefault(tenant, []).append(found.stats.steps)
    assert steps["anna"][1] < steps["anna"][0] == steps["bert"][0]
