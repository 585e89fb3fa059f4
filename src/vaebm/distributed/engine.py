"""Devices, precision and processes.

A program runs as one process or as k equal ones, started by `accelerate launch` or `torchrun`. Every process draws the
same global batch and the same global noise from the same generator and works on its own rows, so that k processes
compute what one computes: with n_i rows and mean gradient g_i in process i,

    g = sum_i n_i g_i / sum_i n_i.

With one process every method here leaves its argument as it is. accelerate finds out who and where we are and connects
the processes; it is imported when an engine is made.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
import torch.distributed as processes
from torch import Tensor, nn

from vaebm.distributed.hardware import supports_bfloat16

Precision = Literal["fp32", "bf16"]
# In the order in which accelerate reads them; the names of a launcher's size and rank stand at the same place.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


class EngineError(ValueError):
    """A device or a precision that does not exist here was asked for; one line says what to do."""


@dataclass(frozen=True)
class Engine:
    """Where this process runs, in which precision, and what it shares with the other processes; see `make_engine`.

    Arguments:
        device: where tensors and modules of this process belong.
        precision: "fp32", or "bf16" for automatic mixed precision in bfloat16.
        process_index: 0 … num_processes - 1.
        num_processes: how many processes run the same program.
    """

    device: torch.device
    precision: Precision
    process_index: int
    num_processes: int

    @property
    def is_main(self) -> bool:
        """Is this the process that writes files and talks to the user?"""
        return self.process_index == 0

    def autocast(self) -> AbstractContextManager[object]:
        """Makes the context in which networks run.

        Returns:
            A context: bfloat16 where that is safe if the precision is "bf16", no change of types otherwise.
        """
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def warning(self) -> str:
        """A sentence on a precision that the device only imitates, or nothing."""
        if self.precision == "fp32" or supports_bfloat16(self.device):
            return ""
        return "this device doesn't compute in bf16: it imitates it, many times slower than fp32 (--precision fp32)"

    def slice(self, tensor: Tensor) -> Tensor:
        """Takes this process's rows of a global batch.

        Where it does not come out even, the first processes take one row more.

        Arguments:
            tensor: the global batch (N, ...), the same in all processes.

        Returns:
            A view (n_i, ...), with sum_i n_i = N; joined in the order of the processes they are the batch.
        """
        return tensor if self.num_processes == 1 else tensor.tensor_split(self.num_processes)[self.process_index]

    def deal(self, count: int) -> range:
        """Says which of so many batches this process computes: runs of them, so that `gather` joins them in order.

        Batches stay whole, for their rows are then the same to the last bit however many processes there are.

        Arguments:
            count: how many there are.

        Returns:
            The places of this process's; empty if there are more processes than batches.
        """
        places = torch.arange(count).tensor_split(self.num_processes)[self.process_index].tolist()
        return range(places[0], places[-1] + 1) if places else range(0)

    def average_gradients(self, module: nn.Module, weight: float = 1.0) -> None:
        """Replaces the gradients of a module by their mean over the processes, g = sum_i w_i g_i / sum_i w_i.

        A gradient that exists in no process stays None; one that is missing here counts as zero.

        Arguments:
            module: the same module in all processes.
            weight: w_i, the number of rows behind this process's mean (0 is allowed); needed if `slice` was not even.
        """
        if self.num_processes > 1:
            for parameters in _by_dtype(module.parameters()):
                _average_gradients(parameters, weight)

    def average_buffers(self, module: nn.Module, weight: float = 1.0) -> None:
        """Replaces the floating-point buffers of a module by their mean over the processes, sum_i w_i b_i / sum_i w_i.

        Arguments:
            module: the same module in all processes.
            weight: w_i, the number of rows behind this process's buffers (0 is allowed).
        """
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.num_processes == 1 or not buffers:
            return
        means = self.mean(torch.cat([buffer.detach().reshape(-1) for buffer in buffers]), weight)
        for buffer, mean in zip(buffers, torch.split(means, [buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(mean.reshape(buffer.shape))

    def mean(self, value: Tensor, weight: float = 1.0) -> Tensor:
        """Takes the mean over the processes, sum_i w_i x_i / sum_i w_i, in float64 and without gradient.

        Arguments:
            value: x_i of any shape, usually a scalar; the same shape in all processes.
            weight: w_i, the number of rows behind this process's value (0 is allowed); needed if `slice` was not even.

        Returns:
            The mean, in the shape and type of the argument.
        """
        if self.num_processes == 1:
            return value.detach()
        total = weight * value.detach().double() if weight else torch.zeros_like(value, dtype=torch.float64)
        summed = torch.cat([total.reshape(-1), total.new_tensor([weight])])
        processes.all_reduce(summed)
        return (summed[:-1] / summed[-1]).reshape(value.shape).to(value.dtype)

    def sum(self, value: Tensor) -> Tensor:
        """Adds up over the processes, without gradient.

        Arguments:
            value: x_i of any shape; the same shape in all processes.

        Returns:
            The sum, the same in every process.
        """
        total = value.detach().clone()
        if self.num_processes > 1:
            processes.all_reduce(total)
        return total

    def from_main(self, values: Sequence[float]) -> list[float]:
        """Hands on the numbers of the main process, so that all processes decide alike.

        Arguments:
            values: the numbers of this process; as many in all processes.

        Returns:
            Those of the main process, the same in every process.
        """
        if self.num_processes == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        processes.broadcast(told, 0)
        return cast(list[float], told.tolist())

    def gather(self, tensor: Tensor, num_rows: int | None = None) -> Tensor:
        """Joins the rows of all processes, in the order of the processes: the inverse of `slice`, without gradient.

        Arguments:
            tensor: rows (n_i, ...) of this process; their number may differ, not their shape.
            num_rows: N, where the rows are those of `slice`: then no process needs to ask how many the others have.

        Returns:
            All rows (N, ...), the same in every process.
        """
        tensor = tensor.detach()
        if self.num_processes == 1:
            return tensor
        if num_rows is None:
            counts = self._gather_equal(torch.tensor([len(tensor)], device=tensor.device)).tolist()
        else:
            counts = [len(part) for part in torch.arange(num_rows).tensor_split(self.num_processes)]
        if len(set(counts)) == 1:
            return self._gather_equal(tensor.contiguous())
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = torch.split(self._gather_equal(padded), max(counts))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def wait(self) -> None:
        """Waits until all processes are here, for instance until the main one has written a file."""
        if self.num_processes > 1:
            processes.barrier()

    def close(self) -> None:
        """Parts from the other processes, at the end of the program."""
        if self.num_processes > 1 and processes.is_initialized():
            processes.destroy_process_group()

    def _gather_equal(self, tensor: Tensor) -> Tensor:
        joined = tensor.new_empty(self.num_processes * len(tensor), *tensor.shape[1:])
        processes.all_gather(list(joined.chunk(self.num_processes)), tensor)
        return joined


def launched_engine() -> Engine | None:
    """Makes the engine of one of several launched processes on the CPU; None for a program that runs alone.

    Alone, a program needn't load accelerate, which takes a second.
    """
    return make_engine("fp32", "cpu") if launched_processes() > 1 else None


def launched_processes() -> int:
    """Tells how many processes a launcher says it has started, torchrun, accelerate or MPI; 1 without a launcher.

    Raises:
        EngineError: what it says makes no sense.
    """
    told = {name: value for name in SIZES if (value := os.environ.get(name, ""))}
    if not told:
        return 1
    size, value = next(iter(told.items()))
    way_out = "start the processes by torchrun or accelerate launch, or unset it"
    if not value.isdecimal() or int(value) < 1:
        raise EngineError(f"{size} is {value!r}, expected the number of processes: {way_out}")
    count, rank = int(value), RANKS[SIZES.index(size)]
    # Under MPI accelerate chooses the port.
    needed = [rank, "MASTER_ADDR", *(["MASTER_PORT"] if size == "WORLD_SIZE" else [])]
    missing = [name for name in needed if not os.environ.get(name)]
    if count > 1 and missing:
        raise EngineError(f"{size} is {count}, but {', '.join(missing)} isn't set: {way_out}")
    place = os.environ.get(rank, "")
    if count > 1 and (not place.isdecimal() or int(place) >= count):
        raise EngineError(f"{rank} is {place!r}, expected 0 to {count - 1} of {count} processes: {way_out}")
    return count


def make_engine(precision: str = "auto", device: str = "auto") -> Engine:
    """Finds out where this process runs and connects it to the others, if there are any.

    Arguments:
        precision: "fp32", "bf16", or "auto": bfloat16 only where the hardware computes in it (a CPU with AVX512-BF16 or
            AMX, a CUDA device of compute capability 8 or more).
        device: "cpu", "cuda", "cuda:1", …, or "auto": CUDA where there is one, else the CPU.

    Returns:
        The engine of this process.

    Raises:
        EngineError: there is no such precision, or no such device here, or a launcher's variables make no sense, or
            the processes don't find each other.

    Example:
        >>> engine = make_engine("fp32", "cpu")
        >>> engine.device, engine.is_main, engine.num_processes
        (device(type='cpu'), True, 1)
    """
    if precision not in ("auto", *get_args(Precision)):
        raise EngineError(f"unknown precision {precision!r}; choose auto, fp32 or bf16")
    count, wanted = launched_processes(), _wanted_device(device)
    state = _connect(count, wanted)
    if state.num_processes > 1 and state.device.type != wanted.type:
        raise EngineError(f"device {device!r} does not fit the launched processes ({state.device.type}); choose auto")
    own = wanted if state.num_processes == 1 or wanted.type == "cpu" else state.device
    resolved = ("bf16" if supports_bfloat16(own) else "fp32") if precision == "auto" else precision
    return Engine(own, cast(Precision, resolved), state.process_index, state.num_processes)


def _connect(count: int, device: torch.device) -> Any:
    """Returns accelerate's record of this process, connected to the others."""
    from accelerate import PartialState

    try:
        # Without cpu=True accelerate takes launched processes on a machine without GPU for strangers to each other.
        return PartialState(cpu=device.type == "cpu")
    except (RuntimeError, ValueError) as error:
        if count == 1:
            raise
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = " ".join(str(error).split())[:200]
        raise EngineError(
            f"the {count} processes don't find each other at {place} ({reason}): was each of them started, and is the "
            "port free? Another one: torchrun --master-port, accelerate launch --main_process_port"
        ) from error


def _wanted_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EngineError(f"there is no device {name!r} here; choose auto or cpu") from error
    if device.type == "meta":
        raise EngineError(f"the device {name!r} holds no numbers; choose auto or cpu")
    return device


def _by_dtype(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    groups: defaultdict[torch.dtype, list[nn.Parameter]] = defaultdict(list)
    for parameter in parameters:
        if parameter.requires_grad:
            groups[parameter.dtype].append(parameter)
    return list(groups.values())


def _average_gradients(parameters: list[nn.Parameter], weight: float) -> None:
    # One message for all: the weighted gradients, then whether each of them exists, then the weight.
    # A process without rows has the weight 0, and means over nothing, nan, for gradients.
    gradients = [torch.zeros_like(p) if p.grad is None or weight == 0 else p.grad for p in parameters]
    present = gradients[0].new_tensor([float(p.grad is not None) for p in parameters] + [weight])
    summed = torch.cat([*(weight * gradient.reshape(-1) for gradient in gradients), present])
    processes.all_reduce(summed)
    flat, counts = summed[: -len(present)] / summed[-1], summed[-len(present) : -1]
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, mean, count in zip(parameters, torch.split(flat, sizes), counts.tolist(), strict=True):
        parameter.grad = mean.reshape(parameter.shape) if count > 0 else None
