"""Files that the `gguf` package writes, and a real one that it reads, against what forerun finds in them."""

import numpy as np
import pytest

import forerun
import needs
from forerun import _core

gguf = needs.module("gguf")  # the oracle
quants = needs.module("gguf.quants")

QUANTISED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


def write(path, alignment=None):
    """A file with a value of every kind; returns the tensors as (name, dtype, shape, bytes)."""
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4_000_000_000)
    writer.add_int32("t.i32", -2_000_000_000)
    writer.add_uint64("t.u64", 2**64 - 1)
    writer.add_int64("t.i64", -(2**63))
    writer.add_float32("t.f32", 0.5)
    writer.add_float64("t.f64", 0.1)
    writer.add_bool("t.bool", True)
    writer.add_string("t.text", "sch\u00f6n \u20ac")
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.5, -1.25])
    writer.add_array("t.bools", [True, False])
    writer.add_array("t.texts", ["a", "", "\u00e9"])

    tensors = []
    for name, dtype, shape in [("f32", np.float32, (3, 5)), ("f16", np.float16, (2, 3, 4))]:
        data = rng.normal(size=shape).astype(dtype)
        writer.add_tensor(name, data)
        tensors.append((name, name.upper(), list(shape), data.nbytes))
    for kind in QUANTISED:
        weights = rng.normal(size=(4, 64)).astype(np.float32)
        raw_type = gguf.GGMLQuantizationType[kind]
        data = quants.quantize(weights, raw_type)
        writer.add_tensor(kind.lower(), data, raw_dtype=raw_type)
        tensors.append((kind.lower(), kind, [4, 64], data.nbytes))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def tensor_list(found):
    return [(t["name"], t["dtype"], list(t["shape"]), t["bytes"]) for t in found["tensors"]]


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_a_written_file_has_the_tensors_that_were_written(tmp_path, alignment):
    path = tmp_path / "t.gguf"
    tensors = write(path, alignment)
    found = _core.inspect(str(path))
    assert found["format"] == "gguf"
    assert found["file_bytes"] == path.stat().st_size
    assert tensor_list(found) == tensors


def test_a_written_file_has_the_metadata_that_was_written(tmp_path):
    write(tmp_path / "t.gguf")
    found = _core.inspect(str(tmp_path / "t.gguf"))["metadata"]
    expected = {
        "general.architecture": "llama",
        "t.u8": 200,
        "t.i8": -100,
        "t.u16": 60000,
        "t.i16": -30000,
        "t.u32": 4_000_000_000,
        "t.i32": -2_000_000_000,
        "t.u64": 2**64 - 1,
        "t.i64": -(2**63),
        "t.f32": 0.5,
        "t.f64": 0.1,
        "t.bool": True,
        "t.text": "sch\u00f6n \u20ac",
        "t.ints": [1, -2, 3],
        "t.floats": [0.5, -1.25],
        "t.bools": [True, False],
        "t.texts": ["a", "", "\u00e9"],
    }
    assert found == expected
    assert all(type(found[key]) is type(value) for key, value in expected.items())


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "t.gguf"
    write(path)
    whole = path.read_bytes()
    for kept in (0, 3, 20, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:kept])
        with pytest.raises(forerun.ModelFileError, match=r"t\.gguf"):
            _core.inspect(str(path))


def test_a_big_endian_file_is_refused_by_name(tmp_path):
    path = tmp_path / "t.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(NotImplementedError, match="big-endian"):
        _core.inspect(str(path))


@pytest.mark.real_model
def test_a_real_file_has_the_tensors_that_the_gguf_package_finds(smollm2_path):
    found = _core.inspect(str(smollm2_path))
    reader = gguf.GGUFReader(smollm2_path)
    assert tensor_list(found) == [
        (t.name, t.tensor_type.name, [int(n) for n in reversed(t.shape)], int(t.n_bytes)) for t in reader.tensors
    ]
    tokens = reader.fields["tokenizer.ggml.tokens"]
    assert len(found["metadata"]["tokenizer.ggml.tokens"]) == len(tokens.data)
