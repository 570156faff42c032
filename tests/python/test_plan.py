import json

import numpy as np
import pytest

import forerun
from forerun import placement as planning
from forerun.cli import run
from test_logits import config
from tiny_files import make, write_gguf


def profile(gpu_bytes=10**9):
    size = {
        "layers": 4,
        "width": 64,
        "vocab": 100,
        "layer_bytes": 1000,
        "layer_parameters": 1000,
        "head_bytes": 500,
        "head_parameters": 500,
        "kv_bytes": 1,
        "scratch_bytes": 0,
    }

    def device(name, factor, memory):
        return {
            "device": name,
            "memory_bytes": memory,
            "layer_ms": [[1, factor], [64, 4 * factor]],
            "head_ms": [[1, factor]],
            "draft_ms": [[[1, factor]]],
            "link_us": 10.0,
            "link_gbs": 10.0,
            "beside": {},
        }

    return {
        "target": size,
        "drafts": [{"name": "model:small", "size": {**size, "layers": 1}, "acceptance": [0.8, 0.4]}],
        "devices": [device("cpu", 10.0, 10**9), device("cuda:0", 1.0, gpu_bytes)],
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "tiny.gguf"
    shape = config("llama")
    files, _ = make(np.random.default_rng(3), shape, "Q4_K", "Q6_K")
    write_gguf(path, shape, files)
    return str(path)


def test_plans_come_best_first_and_a_saved_one_is_a_placement(tmp_path):
    plans = planning.plan_profile(profile())
    speeds = [one.tokens_per_second for one in plans]
    assert speeds == sorted(speeds, reverse=True)
    assert plans[0].layers == {"0-3": "cuda:0"}
    plans[0].save(tmp_path / "plan.json")
    saved = json.loads((tmp_path / "plan.json").read_text())
    assert saved["layers"] == {"0-3": "cuda:0"}
    assert saved["why"] == plans[0].why


def test_memory_decides_what_lies_where():
    assert planning.plan_profile(profile(0))[0].layers == {"0-3": "cpu"}
    some = planning.plan_profile(profile(7000), context=10)[0]
    assert some.memory["cuda:0"] <= 7000
    with pytest.raises(MemoryError, match="would need"):
        planning.plan_profile(profile(), ram_limit=1, vram_limit=1)


def test_the_number_of_draft_tokens_may_be_given():
    plans = planning.plan_profile(profile(), nodes=5)
    assert {one.nodes for one in plans if one.drafter != "none"} == {5}


def test_what_is_no_profile_is_refused():
    with pytest.raises(forerun.ModelFileError, match="profile"):
        planning.plan_profile({"target": 3})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3GiB", 3 << 30), ("512M", 512 << 20), ("1.5K", 1536), (7, 7), (None, 0), ("9", 9), (np.int64(8), 8)],
)
def test_sizes_are_read(text, wanted):
    assert planning.bytes_of("vram_limit", text) == wanted


@pytest.mark.parametrize("text", ["", "3 GB GB", "-1", 0, "lots", True, 0.5, 2**63, "8388608T", "0.1", "9" * 400])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="vram_limit"):
        planning.bytes_of("vram_limit", text)


def test_placements_become_text():
    assert planning.placement_text(None) == ""
    assert planning.placement_text("dovetail") == "dovetail"
    assert json.loads(planning.placement_text({"layers": "cpu"})) == {"layers": "cpu"}


def test_this_machine_is_measured_once_and_plans_hold_in_the_engine(tiny, cache, tmp_path, capfd):
    arguments = {"simulate": {"cuda:0": "bandwidth=448,compute=11000"}, "vram_limit": "1GiB", "context": 64}
    first = forerun.plan(tiny, tiny, **arguments)
    assert first.measured
    assert any("cuda:0" in one.memory for one in first.plans)
    again = forerun.plan(tiny, tiny, **arguments)
    assert not again.measured
    assert again.profile["devices"][0]["layer_ms"] == first.profile["devices"][0]["layer_ms"]
    assert again.cache_file.startswith(str(cache))

    here = next(one for one in first.plans if "cuda:0" not in one.memory)
    wanted = forerun.Engine(tiny, "none").generate([1, 2, 3], max_tokens=8).tokens
    here.save(tmp_path / "plan.json")
    for placement in (here, tmp_path / "plan.json", "cpu", {"layers": "cpu"}):
        with forerun.Engine(tiny, f"model:{tiny}", placement=placement) as engine:
            assert engine.generate([1, 2, 3], max_tokens=8).tokens == wanted

    code = run(
        ["plan", tiny, tiny, "--vram", "1GiB", "--context", "64", "--simulate", "cuda:0:bandwidth=448,compute=11000"]
    )
    shown = capfd.readouterr().out
    assert code == 0
    assert "Best:" in shown
    assert "cuda:0" in shown


@pytest.mark.parametrize("acceptance", [-0.1, 1.0, float("nan"), float("inf")])
def test_an_acceptance_that_is_no_share_is_refused_before_anything_is_measured(tiny, cache, acceptance):
    with pytest.raises(ValueError, match="acceptance"):
        forerun.plan(tiny, acceptance=acceptance)


def test_placements_that_cannot_be_are_refused(tiny):
    with pytest.raises(ValueError, match="every layer"):
        forerun.Engine(tiny, placement={"layers": {"1": "cpu"}})
    with pytest.raises(ValueError, match="nowhere"):
        forerun.Engine(tiny, placement="nowhere")
    with pytest.raises(ValueError, match="ram_limit"):
        forerun.Engine(tiny, placement="cpu", ram_limit="1K")
    assert run(["plan", tiny, "--simulate", "cuda:0"]) == 2
