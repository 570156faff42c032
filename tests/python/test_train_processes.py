"""Several processes train one draft: the slopes are averaged, and one file comes out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("safetensors", reason="needs safetensors")
pytest.importorskip("accelerate", reason="needs accelerate")

from forerun.cli import run  # noqa: E402
from forerun.draft_file import read_draft  # noqa: E402
from forerun.train.collect import Budget, collect  # noqa: E402
from forerun.train.data import groups, make_batch, split  # noqa: E402
from forerun.train.export import tensors  # noqa: E402
from forerun.train.loop import cosine, descend, read_log  # noqa: E402
from forerun.train.models import draft_vocabulary  # noqa: E402
from forerun.train.processes import Processes, join  # noqa: E402
from forerun.train.runs import Shape, load_sequences, new_draft, token_counts  # noqa: E402
from forerun.train.target import read_target  # noqa: E402
from forerun.train.trainer import Schedule, optimisers  # noqa: E402
from forerun.train.unroll import Objective, batch_loss  # noqa: E402
from test_train_runs import Counting, circles  # noqa: E402

ROWS, COUNT = 24, 2
OPTIONS = (
    f"--family dgf --ffn-width 32 --draft-vocab 8 --own-head --unroll 2 --rows {ROWS} --held-out 5 --weights f32 --f32 "
    "--epochs 2 --validate-every 100"
)


@pytest.fixture(scope="module")
def shards(target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    collect(Counting(read_target(target).width), circles(20), folder, [-1], 3, Budget(shard_tokens=60))
    return folder


def train_together(target, shards, file, *more):
    """COUNT processes, begun as torchrun would: (exit status, stdout, stderr) of each, the main one first."""
    wanted = ["-m", "forerun", "train", "draft", str(target), str(shards), str(file), *OPTIONS.split(), *more]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"WORLD_SIZE": COUNT, "LOCAL_WORLD_SIZE": COUNT, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    settings |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": 1}
    begun = []
    for rank in range(COUNT):
        own = settings | {"RANK": rank, "LOCAL_RANK": rank}
        environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen([sys.executable, *wanted], env=environment, **pipes))
    printed = [process.communicate(timeout=300) for process in begun]
    return [(process.returncode, *text) for process, text in zip(begun, printed, strict=True)]


def by_hand(target, shards, epochs):
    """The same in one process: of every COUNT batches the mean of the losses."""
    parts = read_target(target)
    shape = Shape("dgf", ffn_width=32, draft_vocab=8, own_head=True)
    train, _ = split(load_sequences(shards, [-1]), 5)
    draft = new_draft(shape, parts, draft_vocabulary(token_counts(train, parts.vocab), 8), 0)
    schedule = Schedule(rate=0.02, fine_rate=0.002)
    learners = optimisers(draft, schedule)
    passes = [[make_batch(group, 256) for group in groups(train, ROWS, 0, epoch)] for epoch in range(epochs)]
    total = sum(len(batches) // COUNT for batches in passes)
    step = 0
    for batches in passes:
        for first in range(0, len(batches) // COUNT * COUNT, COUNT):

            def loss_of(first=first, batches=batches, step=step):
                losses = []
                for index in range(COUNT):
                    torch.manual_seed((hash((0, step)) + index) % 2**31)
                    losses.append(batch_loss(draft, batches[first + index], Objective(unroll=2, thin=0.5))[0])
                return sum(losses) / COUNT, None

            done = step / total
            factor = max(done / 0.03, 0.01) if done < 0.03 else cosine((done - 0.03) / 0.97, 0.05)
            descend(draft, learners, factor, loss_of, bf16=False)
            step += 1
    return draft, total


@pytest.fixture(scope="module")
def together(target, shards, tmp_path_factory):
    """A run of several processes: the file that it wrote, and what it printed."""
    file = tmp_path_factory.mktemp("whole") / "d.gguf"
    printed = train_together(target, shards, file)
    assert [status for status, _, _ in printed] == [0] * COUNT, printed
    return file, printed


def test_processes_learn_from_batches_of_their_own_and_write_one_file(target, shards, together):
    file, printed = together
    assert "validation tau" in printed[0][1].replace("\n", " ")
    assert printed[1][1] == ""
    wanted, steps = by_hand(target, shards, 2)
    (last,) = read_log(file.with_suffix(".run"))
    assert last["step"] == last["of"] == steps > 3
    assert sorted(path.name for path in file.parent.iterdir()) == ["d.gguf", "d.run"]
    found = read_draft(file)[1]
    start = tensors(by_hand(target, shards, 0)[0])
    for name, value in tensors(wanted).items():
        # Muon makes all directions of a slope equally large, those of rounding too.
        most = 0.01 if "norm" in name or "head" in name else 0.25
        assert np.linalg.norm(found[name] - value) < most * np.linalg.norm(value - start[name]), name


def test_a_stopped_run_of_several_goes_on_but_not_as_one(target, shards, together, tmp_path, capsys):
    file = tmp_path / "d.gguf"
    (status, said, _), *_ = train_together(target, shards, file, "--hours", "1e-9")
    assert status == 0
    assert "stopped before the first validation" in " ".join(said.split())
    alone = ["train", "draft", str(target), str(shards), str(file), *OPTIONS.split()]
    assert run(alone) == 2
    assert "other settings" in capsys.readouterr().err
    assert train_together(target, shards, file)[0][0] == 0
    assert file.read_bytes() == together[0].read_bytes()


def test_one_process_is_what_it_was_without_the_library(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join()
    assert (alone.index, alone.count, alone.is_main, alone.device.type) == (0, 1, True, "cpu")
    module = torch.nn.Linear(2, 2)
    assert alone.share(module) is module
    assert alone.agreed("x") == "x"
    assert isinstance(alone, Processes)


def test_several_without_the_library_are_told_to_install_it(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="needs accelerate"):
        join()


def test_shares_of_an_epoch_are_disjoint_and_equal(shards):
    train, _ = split(load_sequences(Path(shards), [-1]), 5)
    whole = [[text.source for text in group] for group in groups(train, ROWS, 3, 1)]
    parts = [[[text.source for text in group] for group in groups(train, ROWS, 3, 1, (i, 3))] for i in range(3)]
    assert [len(part) for part in parts] == [len(whole) // 3] * 3
    assert sorted(one for part in parts for one in part) == sorted(whole[: len(whole) // 3 * 3])
