"""The processes that train one draft together: those that `accelerate launch` or `torchrun` began, on GPUs or machines
of their own, or the one at hand.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")


class Processes:
    """One of `count` processes. The first is the main one, and the only one that writes."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator
        self.index = accelerator.process_index if accelerator else 0
        self.count = accelerator.num_processes if accelerator else 1
        self.device = accelerator.device if accelerator else torch.device("cpu")
        self.is_main = self.index == 0

    def share(self, module: nn.Module) -> nn.Module:
        """`module` on this process's device; the slopes of what it is called for are means over the processes."""
        return self._accelerator.prepare_model(module) if self._accelerator else module

    def agreed(self, value: Value) -> Value:
        """The main process's value."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        held = [value]
        broadcast_object_list(held)
        return held[0]

    def close(self) -> None:
        """Ends them together: one that leaves while another still talks to it may be aborted."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()
            self._accelerator.end_training()


def join() -> Processes:
    """The processes that this one was begun with.

    Raises ValueError where there are several and `accelerate` is missing.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ and int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise ValueError("training in several processes needs accelerate: pip install 'forerun[train-many]'") from error
    frozen = DistributedDataParallelKwargs(broadcast_buffers=False)  # the target's parts are the same everywhere
    return Processes(Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[frozen]))
