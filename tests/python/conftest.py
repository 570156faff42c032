"""Fixtures. Real models: $FORERUN_TEST_MODELS (a folder of files) first, then the cache, then a pull."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import fake_native
from forerun import models
from forerun.engine import _core

ROOT = Path(__file__).resolve().parents[2]

# A shell that starts a job in the background has it ignore Ctrl-C; the tests that press it need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if "smollm2_path" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_model)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return _model("smollm2-135m")


def _model(name: str) -> Path:
    model = models.catalogue()[name]
    folder = os.environ.get("FORERUN_TEST_MODELS")
    if folder and Path(folder, model.file).is_file():
        return Path(folder, model.file).resolve()
    try:
        return models.pull(name).resolve()
    except models.PullError as error:
        pytest.skip(
            f"needs the model {name}: run `forerun pull {name}` where there is a network, or name a folder that "
            f"holds {model.file} in FORERUN_TEST_MODELS ({error})"
        )


@pytest.fixture(scope="session")
def target(tmp_path_factory) -> Path:
    """A random llama of three layers and float weights, to train drafts for."""
    import numpy as np

    from test_logits import config
    from tiny_files import make, write_gguf

    path = tmp_path_factory.mktemp("target") / "m.gguf"
    shape = config("llama", layers=3)
    write_gguf(path, shape, make(np.random.default_rng(1), shape, "F32", "F32")[0])
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty model cache of the test's own."""
    monkeypatch.setenv("FORERUN_CACHE", str(tmp_path / "cache"))
    folder = models.cache_dir()
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def smollm2_cache(cache, smollm2_path) -> Path:
    """A model cache in which smollm2-135m counts as pulled."""
    (cache / smollm2_path.name).symlink_to(smollm2_path)
    return cache


@pytest.fixture
def fake(monkeypatch):
    """Replaces the native engine and probes by those of fake_native; returns its Engine class."""
    engine = type("Engine", (fake_native.Engine,), {})
    monkeypatch.setattr(_core, "Engine", engine)
    for name in ("cpu_info", "kernel_uses", "read_bandwidth", "cuda_info", "inspect"):
        monkeypatch.setattr(_core, name, getattr(fake_native, name))
    return engine


@pytest.fixture
def model_file(tmp_path) -> str:
    """A path that exists; with `fake`, all that a model needs to be."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return str(path)
