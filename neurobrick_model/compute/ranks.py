"""Ranks: the processes that train one model together, started by torchrun."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from neurobrick import RecipeError


@dataclass(frozen=True)
class Ranks:
    """This process among `count` that train together; alone by default."""

    rank: int = 0
    count: int = 1
    local: int = 0  # among those of this machine

    @classmethod
    def from_environment(cls) -> Ranks:
        """As torchrun says."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, count, local = (int(os.environ.get(name, default)) for name, default in
                              zip(names, (0, 1, 0), strict=True))  # fmt: skip
        return cls(rank, count, local)

    def check(self, batch: int) -> None:
        """Raises RecipeError when a batch cannot be shared out evenly."""
        if batch % self.count:
            raise RecipeError(
                f"training.batch is {batch} and there are {self.count} ranks: it must be a "
                "multiple of them"
            )

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """While the ranks can talk to each other: by nccl between cards, by gloo between CPUs."""
        if self.count == 1:
            yield
            return
        card = device.type == "cuda"
        dist.init_process_group("nccl" if card else "gloo", device_id=device if card else None)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module`, whose gradients are then averaged over the ranks."""
        if self.count == 1:
            return module
        with warnings.catch_warnings():
            # Newer versions of torch have another name for it, which 2.10 does not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            return DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """While gradients of `module` are kept to this rank, as more are to be added."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over the ranks, in place."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()
