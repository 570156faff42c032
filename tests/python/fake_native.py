"""A native engine in Python: its "model" continues any prompt with the alphabet, one letter a step.

For tests of what the Python side does around the native module: threads, checks, errors, formats.
"""

from __future__ import annotations

import os
import signal
import threading
import time

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DRAFTERS = ("ngram", "recycle", "model")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class Engine:
    """Class attributes are what a test may set before an instance is made."""

    step_seconds = 0.0
    fails_at = None
    interrupts_at = None  # presses Ctrl-C
    template = TEMPLATE
    made = ()

    bos_token = -1
    eos_token = 36
    end_tokens = (36,)

    def __init__(self, target, draft="auto", threads=None, context=None, progress=None, **options):
        for piece in draft.split("+") if draft not in ("none", "auto") else ():
            name, _, path = piece.partition(":")
            if name not in DRAFTERS or (name == "model") != bool(path):
                raise ValueError(f"unknown draft {draft!r}")
        self.target, self.draft = target, draft
        self.info = {
            "architecture": "alphabet",
            "draft": draft,
            "threads": threads or 2,
            "weights_bytes": 1000,
            "isa": "scalar",
        }
        self.options, self.encoded = options, []
        self.calls, self.running = [], 0
        self.stats = {"steps": 3, "tokens": 5}
        self.lock = threading.Lock()
        type(self).made = (*type(self).made, self)
        if progress is not None:
            progress(1.0)

    def generate(self, prompt, max_tokens, sampling, stop, seed, logprobs, on_text, tenant=""):
        self.calls.append(
            {"prompt": prompt, "sampling": sampling, "stop": stop, "seed": seed, "max": max_tokens, "tenant": tenant}
        )
        with self.lock:
            self.running += 1
        try:
            return self._generate(prompt, max_tokens, on_text)
        finally:
            with self.lock:
                self.running -= 1

    def _generate(self, prompt, max_tokens, on_text):
        text, reason = "", "length"
        for index in range(max_tokens):
            time.sleep(self.step_seconds)
            if index == self.interrupts_at:
                os.kill(os.getpid(), signal.SIGINT)
            if index == self.fails_at:
                raise RuntimeError("the device is gone")
            piece = ALPHABET[index % 26]
            text += piece
            if on_text is not None and not (on_text("") and on_text(piece)):
                reason = "cancelled"
                break
        return {
            "text": text,
            "tokens": list(text.encode()),
            "finish_reason": reason,
            "logprobs": None,
            "stats": {
                "steps": max(1, len(text) // 2),
                "tokens": len(text),
                "tau": 2.0,
                "drafted": len(text),
                "accepted": len(text) // 2,
                "acceptance_by_depth": [0.5],
                "tried_by_depth": [max(1, len(text) // 2)],
                "prompt_tokens": len(prompt),
                "prefill_seconds": 0.5,
                "decode_seconds": 1.0 if self.draft == "none" else 0.5,
                "lossy": False,
            },
        }

    @property
    def chat_template(self):
        return self.template

    def encode(self, text, add_special=True, parse_special=True):
        self.encoded.append((text, add_special))
        return list(text.encode())

    def token_text(self, token):
        return bytes([token])

    def measure_verify(self, rows, context, repeats):
        return [1.0 + rows / 4 + noise / 1000 for noise in range(repeats)]

    def measure_prefill(self, tokens, repeats):
        return [256.0] * repeats


def cpu_info():
    return {
        "model": "Abacus",
        "cores": 2,
        "isa": "scalar",
        "features": ["beads"],
        "isas_available": ["scalar"],
    }


def read_bandwidth(threads, mib):
    return 1.0 * threads


def kernel_uses(threads):
    return [("Q4_K", 4, "beads"), ("Q4_K", 0, "rods"), ("Q8_0", 4, "beads"), ("Q8_0", 0, "rods"), ("F32", 0, "beads")]


def cuda_info():
    return {"available": False, "reason": "no driver"}


def inspect(path):
    return {
        "format": "GGUF v3",
        "path": path,
        "file_bytes": 2_000_000,
        "metadata": {"general.name": "evil\x1b[2Jname", "ids": list(range(1000))},
        "tensors": [{"name": "token_embd.weight", "dtype": "Q4_1", "shape": [4, 8], "bytes": 20}],
        "architecture": "alphabet",
        "supported": False,
        "reason": "unsupported architecture alphabet",
        "parameters": 32,
    }
