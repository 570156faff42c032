"""Online Speculative Decoding (Liu et al., arXiv 2310.07177): a draft head goes on learning from what its engine
writes.

A thread hands finished texts, with what the target showed as it wrote them, to a process that trains. New weights come
back as a draft file, with which the engine drafts from its next request on. Only rows whose best guess is not what the
target wrote are learnt from. The text never changes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Tokens
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun import models
from forerun.draft_file import draft_weights, extend_draft, read_draft
from forerun.train.collect import look
from forerun.train.texts import Text

if TYPE_CHECKING:
    from forerun.engine import Engine
    from forerun.types import Features


@dataclass(frozen=True)
class OnlinePlan:
    """every: texts of an update, which takes `steps` steps at a learning rate of `rate`. waiting: texts kept at most
    while an update is under way; the oldest go first. top_k: next tokens of each law. threads: of the training process.
    weights: of the new files; those of the draft that it began with, if none are named.
    """

    every: int = 8
    steps: int = 4
    rate: float = 1e-3
    unroll: int = 3
    waiting: int = 64
    top_k: int = 16
    most_context: int = 256
    threads: int = 1
    weights: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.every <= self.waiting:
            raise ValueError(f"every: expected 1 to waiting ({self.waiting}), found {self.every}")
        if self.steps < 1 or self.threads < 1 or not self.rate > 0:
            raise ValueError("steps, threads and rate: expected more than 0")


def recording(draft: str | os.PathLike[str], plan: OnlinePlan | None = None) -> dict[str, Any]:
    """The options of an engine whose completions bring the features that `Online.observe` takes for this draft."""
    return {"record_taps": _taps(read_draft(draft)[0]), "record_top_k": (plan or OnlinePlan()).top_k}


class Online:
    """Keeps the head of `engine`, which drafts with the file `draft`, up to date; its newest file is draft.gguf in
    `folder`.

    Raises ValueError where `draft` is none that can be trained on.
    """

    def __init__(
        self,
        engine: Engine,
        target: str | os.PathLike[str],
        draft: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        plan: OnlinePlan | None = None,
    ) -> None:
        self.updates = 0
        self.loss = 0.0  # of the latest update, a mean over the rows that were learnt from
        self._engine, self._plan = engine, plan or OnlinePlan()
        metadata = read_draft(draft)[0]
        self._taps = _taps(metadata)
        self._widths = len(self._taps) * metadata["target.width"], self._plan.top_k
        self._texts: deque[Text] = deque(maxlen=self._plan.waiting)
        self._changed = threading.Condition()
        self._least = self._plan.every  # texts that start an update
        self._busy = self._closing = False
        self._failure: BaseException | None = None
        target, draft, folder = Path(models.resolve(os.fspath(target))), Path(draft), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._process, self._link = _start()
        self._link.send((target, draft, folder, self._plan))
        self._thread = threading.Thread(target=self._feed, name="forerun-online", daemon=True)
        try:
            if message := self._answer():
                raise ValueError(message)
        except BaseException:
            self.close()
            raise
        self._thread.start()

    def observe(self, tokens: Tokens[int], prompt_length: int, features: Features | None = None) -> None:
        """A finished text: prompt and answer. Returns at once. features: the completion's, of an engine with the
        options `recording(draft)`; without them the target reads the text once more, taking turns with requests.

        Raises ValueError for features of another shape, RuntimeError with what made an update fail.
        """
        with self._changed:
            self._check()
        if prompt_length < 1 or len(tokens) < prompt_length + 2:
            return  # nothing of it could be learnt
        if features is not None:
            found = features.states.shape, features.top_tokens.shape
            wanted = (len(tokens) - 1, self._widths[0]), (len(tokens) - prompt_length, self._widths[1])
            if found != wanted:
                raise ValueError(
                    f"features: expected states of shape {wanted[0]} and next tokens of shape {wanted[1]}, found "
                    f"{found[0]} and {found[1]}; give a completion's, of an engine with the options recording(draft)"
                )
        with self._changed:
            self._texts.append(Text(list(tokens), prompt_length, features))
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all that was observed is learnt and in use. Raises RuntimeError when it was closed."""
        with self._changed:
            self._least = 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure or self._closing or not (self._texts or self._busy))
            self._least = self._plan.every
            self._check()
            if self._closing and self._texts:
                raise RuntimeError(f"online training was closed; {len(self._texts)} texts are not learnt from")

    def close(self) -> None:
        """Ends after the update that is under way; what waits for another is forgotten."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._link.close()  # at which the process ends
        self._process.wait()

    def __enter__(self) -> Online:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._failure:
            raise RuntimeError(f"online training has ended: {self._failure}") from self._failure

    def _feed(self) -> None:
        try:
            while texts := self._next():
                self._link.send([look(self._engine, text, self._taps, self._plan.top_k) for text in texts])
                path, self.loss = self._answer()
                self._engine.replace_head(path)
                self.updates += 1
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> list[Text]:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or len(self._texts) >= self._least)
            if self._closing:
                return []
            self._busy = True
            return [self._texts.popleft() for _ in range(min(self._plan.every, len(self._texts)))]

    def _answer(self):
        try:
            return self._link.recv()
        except (EOFError, OSError):
            raise RuntimeError("the training process ended") from None


def _taps(metadata: Mapping[str, Any]) -> list[int]:
    return [int(tap) for tap in metadata.get("taps", [])]


def _start() -> tuple[subprocess.Popen, Connection]:
    """A process that runs `serve`, and the link to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        code = f"from forerun.train.online import serve; serve({theirs.fileno()})"
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the process that asks for text; the link tells this one its end
        )
    return process, Connection(ours.detach())


def serve(handle: int) -> None:
    """The training process: is told what to train, answers "" or why it cannot, and then each list of sequences with a
    file and a loss, until the link is closed.
    """
    link = Connection(handle)
    with suppress(EOFError, OSError):  # the other end is gone
        _learn(link, *link.recv())


def _learn(link: Connection, target: Path, draft: Path, folder: Path, plan: OnlinePlan) -> None:
    try:
        import torch

        from forerun.train.data import make_batch
        from forerun.train.drafts import load_draft
        from forerun.train.export import export
        from forerun.train.loop import descend
        from forerun.train.rounding import rounded
        from forerun.train.target import read_target
        from forerun.train.unroll import Objective, batch_loss

        torch.set_num_threads(plan.threads)
        parts = read_target(target)
        model = load_draft(draft, parts)
        objective = Objective(unroll=model.config.fixed_unroll or plan.unroll, only_rejected=True)
    except Exception as error:
        link.send(f"{type(error).__name__}: {error}")
        return
    link.send("")
    kept = {name: value for name, value in read_draft(draft)[1].items() if name.startswith("accept.")}
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.0)
    file, weights = folder / "draft.gguf", plan.weights or draft_weights(draft)
    while True:
        batch = make_batch(link.recv(), plan.most_context)
        for _ in range(plan.steps):
            step = partial(batch_loss, model, batch, objective)
            seen = rounded(model, weights)
            shown = descend(model, [(optimiser, plan.rate)], 1.0, step, bf16=False, seen=seen)
        export(model, parts, file, draft.stem, weights)
        if kept:
            extend_draft(file, file, kept, weights=weights)
        link.send((str(file), shown[0]))
