"""Tensors of .safetensors files and of PyTorch's .bin and .pt files, as NumPy arrays.

A .bin file is a zip archive with a pickle that describes tensors over raw storages. A pickle can call anything that it
names; here it can name only what a state dict needs, each stood in for by an object of this module that does nothing
but describe a tensor. Everything else is refused before it is called.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forerun import _core

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bf16",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_LARGEST_HEADER = 64 << 20
_LARGEST_PICKLE = 64 << 20


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file by name; bfloat16 becomes float32.

    Raises ModelFileError for a malformed file and for a pickle that names anything but tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_archive(path)


def _fail(path: Path, why: str) -> _core.ModelFileError:
    return _core.ModelFileError(f"{path}: {why}")


def _width(kind: str) -> int:
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def _values(raw: np.ndarray, kind: str) -> np.ndarray:
    """Bytes as values."""
    if kind != "bf16":
        return raw.view(kind)
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    if data.size < 8:
        raise _fail(path, "too short for a safetensors header")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if length > min(data.size - 8, _LARGEST_HEADER):
        raise _fail(path, f"its header claims {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        body, out = data[8 + length :], {}
        for name, entry in entries:
            kind, shape = _SAFETENSORS[entry["dtype"]], [int(size) for size in entry["shape"]]
            begin, end = (int(place) for place in entry["data_offsets"])
            if min(shape, default=0) < 0 or not 0 <= begin <= end <= body.size:
                raise _fail(path, f"tensor {name!r} lies outside the file")
            if math.prod(shape) * _width(kind) != end - begin:
                raise _fail(path, f"tensor {name!r}: {end - begin} bytes for shape {shape} of {entry['dtype']}")
            out[name] = _values(body[begin:end], kind).reshape(shape)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _fail(path, f"malformed safetensors header: {error!r}") from None
    return out


@dataclass(frozen=True, slots=True)
class _Storage:
    """What a pickle says of a storage, once its bytes are at hand."""

    kind: str
    raw: np.ndarray


class _Rebuild:
    """Stands for a function of torch that makes a tensor; makes an array."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        sizes, steps = [_count(size) for size in shape], [_count(step) for step in stride]
        values = _values(storage.raw, storage.kind)
        last = _count(offset) + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        if 0 in sizes:
            return np.zeros(sizes, values.dtype)
        if last >= values.size or math.prod(sizes) > values.size:
            raise pickle.UnpicklingError("a tensor beyond its storage")
        strides = [step * values.itemsize for step in steps]
        return np.lib.stride_tricks.as_strided(values[offset:], sizes, strides, writeable=False)


class _Parameter:
    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise pickle.UnpicklingError(f"{value!r} where a size was expected")
    return value


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    **{("torch", name): (kind,) for name, kind in _STORAGES.items()},
}


# What PyTorch writes for a state dict; nothing that finds classes in other ways.
_OPCODE_NAMES = (
    "PROTO FRAME STOP MARK POP EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 DICT LIST SETITEM SETITEMS "
    "APPEND APPENDS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET BINUNICODE SHORT_BINUNICODE BININT BININT1 BININT2 "
    "LONG1 BINFLOAT NONE NEWTRUE NEWFALSE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
)
_OPCODES = frozenset(_OPCODE_NAMES.split())


def _check_opcodes(data: bytes) -> None:
    """Before anything runs. A memo index may be no larger than the pickle, or the memo could take all memory."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it uses {opcode.name}, which no tensor needs")
        if opcode.name == "LONG_BINPUT" and argument > len(data):
            raise pickle.UnpicklingError("a memo index beyond the pickle")


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of a tensor") from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise pickle.UnpicklingError("a reference that is not a storage")
        (kind,) = pid[1]
        raw = np.frombuffer(_stored(self._archive, f"{self._root}/data/{pid[2]}"), np.uint8)
        if raw.size != _count(pid[4]) * _width(kind):
            raise pickle.UnpicklingError(f"storage {pid[2]} has {raw.size} bytes for {pid[4]} values")
        return _Storage(kind, raw)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member that is kept as it is: no size can be claimed that the file does not have."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise pickle.UnpicklingError(f"member {name} is compressed")
    return archive.read(info)


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise _fail(path, "neither .safetensors nor a zip archive of PyTorch; save it again with a newer PyTorch")
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(found) != 1:
                raise _fail(path, "the archive holds no single data.pkl")
            if archive.getinfo(found[0]).file_size > _LARGEST_PICKLE:
                raise _fail(path, "its data.pkl is too large for a description of tensors")
            root = found[0].removesuffix("/data.pkl")
            described = _stored(archive, found[0])
            _check_opcodes(described)
            state = _Unpickler(described, archive, root).load()
    except _core.ModelFileError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise _fail(path, f"refused: {error}") from None
    if not isinstance(state, dict):
        raise _fail(path, f"holds a {type(state).__name__}, expected tensors by name")
    return {str(name): value for name, value in state.items() if isinstance(value, np.ndarray)}
