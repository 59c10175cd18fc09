"""Ranks: the processes that train one model together, started by torchrun."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from neurobrick import NeurobrickError, RecipeError

JOIN_WITHIN = 600.0  # seconds; ranks may take minutes to read their corpus
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together."""

    rank: int = 0  # number of this process, from 0
    count: int = 1  # of all processes
    local: int = 0  # number of this process among those of its machine

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None) -> Ranks:
        """The ranks that torchrun, or another launcher, names in the environment.

        `variables` are those of this process by default: WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR,
        MASTER_PORT. Raises RecipeError with one line that names the variable which is missing,
        malformed or contradicts another.
        """
        variables = os.environ if variables is None else variables
        count = _number(variables, "WORLD_SIZE", 1, least=1)
        rank = _number(variables, "RANK", 0, least=0)
        local = _number(variables, "LOCAL_RANK", 0, least=0)
        for name, value in (("RANK", rank), ("LOCAL_RANK", local)):
            if value >= count:
                size = variables.get("WORLD_SIZE", "not set, which means 1")
                raise _wrong(f"{name} is {value}, but WORLD_SIZE is {size}")
        if count > 1:
            for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
                if not variables.get(name):
                    raise _wrong(f"WORLD_SIZE is {count}, but {name} is not set")
            port = _number(variables, "MASTER_PORT", 0, least=0)
            if port > HIGHEST_PORT:
                raise _wrong(f"MASTER_PORT is {port}, but ports end at {HIGHEST_PORT}")
        return cls(rank, count, local)

    def check(self, batch: int) -> None:
        """Raises RecipeError when a batch cannot be divided evenly among the ranks."""
        if batch % self.count:
            raise RecipeError(
                f"training.batch is {batch} and there are {self.count} ranks: it must be a "
                "multiple of them"
            )

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    @contextmanager
    def joined(
        self, device: torch.device, say: Callable[[str], None], within: float = JOIN_WITHIN
    ) -> Iterator[None]:
        """Within the block, the ranks can exchange tensors: by nccl on GPUs, by gloo on CPUs.

        Raises NeurobrickError when not all ranks have joined `within` so many seconds.
        """
        if self.count == 1:
            yield
            return
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        say(f"waiting for {self.count} processes (WORLD_SIZE) at {address}")
        card = device.type == "cuda"
        try:
            store, _, _ = next(
                rendezvous("env://", self.rank, self.count, timeout=timedelta(seconds=within))
            )
            store.set_timeout(timedelta(seconds=within))
            dist.init_process_group(
                "nccl" if card else "gloo",
                store=PrefixStore("neurobrick", store),
                rank=self.rank,
                world_size=self.count,
                device_id=device if card else None,
            )
        except (dist.DistError, RuntimeError, OSError) as error:
            raise NeurobrickError(
                f"not all of the {self.count} processes that WORLD_SIZE names have met at "
                f"MASTER_ADDR:MASTER_PORT, {address}: start them by torchrun, or unset WORLD_SIZE "
                f"to train in this process alone ({str(error).splitlines()[0]})"
            ) from error
        try:
            yield
        finally:
            dist.destroy_process_group()

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module`, wrapped so that its gradients are averaged over the ranks."""
        if self.count == 1:
            return module
        with warnings.catch_warnings():
            # Newer versions of torch have another name for the argument, which 2.10 does not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            return DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def without_averaging(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within the block, gradients of `module` add up on this rank and are not averaged yet."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over the ranks. `x` is overwritten with it."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        if self.count > 1:
            dist.barrier()


def _number(variables: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = variables.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise _wrong(f"{name} is {text!r}, which is no whole number") from None
    if value < least:
        raise _wrong(f"{name} is {value}, but must be at least {least}")
    return value


def _wrong(fault: str) -> RecipeError:
    return RecipeError(
        f"in the environment, {fault}: a launcher such as torchrun sets these variables; unset "
        "WORLD_SIZE, RANK and LOCAL_RANK to train in this process alone"
    )
