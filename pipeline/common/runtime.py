"""The runtime environment: device, worker processes, memory, random seeds."""

import ctypes
import math
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar, cast

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from pipeline.common.errors import InputError

Placed = TypeVar("Placed", bound=Tensor | nn.Module)

# Slow imports. Those that this process uses are imported once for all worker processes.
_PRELOADED = ["torch", "torchvision", "timm", "zarr", "pycocotools.mask"]

# Parameters of mallopt (glibc, malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Configure glibc to keep freed memory for reuse.

    By default it returns the memory of every large tensor to the kernel. On a CPU, a training
    step then spends more time on allocations than on arithmetic.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # the C library is not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def device() -> torch.device:
    """Return the device that `WISE_DEVICE` selects: `cpu`, `cuda`, or `auto` (the default).

    Raises
    ------
    InputError
        If it has another value, or is `cuda` and torch finds no GPU.
    """
    wanted = os.environ.get("WISE_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"WISE_DEVICE={wanted}: allowed are auto, cpu and cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("WISE_DEVICE=cuda: torch finds no GPU; unset it, or set it to cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def channels_last(value: Placed, where: torch.device) -> Placed:
    """Move a network, or images (n, c, h, w), to a device, with channels last in memory.

    Convolutions are fastest in this memory format, on CPUs and GPUs alike.
    """
    layout = torch.channels_last
    return cast("Placed", value.to(where, non_blocking=True, memory_format=layout))  # type: ignore[call-overload]


def on_gpu(where: torch.device) -> bool:
    """Whether a device is a GPU: work on it is queued, and reading a result waits for it."""
    return where.type != "cpu"


def synchronize(where: torch.device) -> None:
    """Wait until a device has finished its work, for example to time it."""
    if on_gpu(where):
        torch.get_device_module(where).synchronize(where)


def autocast(where: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU, and in float32 on a CPU."""
    return torch.autocast(where.type, torch.bfloat16, enabled=on_gpu(where))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute convolutions and matrix products of float32 tensors in float32 on a GPU.

    By default, cuDNN rounds their inputs to the 10 bits of TF32. cuBLAS does so if torch was told
    to, as by `TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1`, which NVIDIA's containers set.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


@contextmanager
def device_memory(parameter: str) -> Iterator[None]:
    """Context in which a GPU or CPU that runs out of memory is an error that names a parameter.

    Parameters
    ----------
    parameter : key in params.yaml that the memory grows with.

    Raises
    ------
    InputError
        If the memory of the device is too small.
    """
    try:
        yield
    except RuntimeError as error:
        # Of tensors it is torch.OutOfMemoryError, of a new CUDA context torch.AcceleratorError.
        said = {"out of memory": "GPU", "can't allocate memory": "machine"}
        where = next((where for text, where in said.items() if text in str(error)), None)
        if where is None:
            raise
        raise InputError(
            f"the memory of the {where} is too small; lower {parameter}, or end other programs on "
            "it"
        ) from None


def is_main_process() -> bool:
    """Whether this process writes results: the first one that torchrun started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def seconds_between_checkpoints() -> float:
    """Return the interval between checkpoints: `WISE_CHECKPOINT_SECONDS`, 60 by default.

    Raises
    ------
    InputError
        If it is not a number of at least 0.
    """
    wanted = os.environ.get("WISE_CHECKPOINT_SECONDS", "60")
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InputError(f"WISE_CHECKPOINT_SECONDS={wanted}: a number of at least 0 is needed")
    return seconds


def workers(on_device: bool = False) -> int:
    """Return the number of worker processes: `WISE_WORKERS`, by default one per CPU core.

    Parameters
    ----------
    on_device : whether they compute on `device()`. If that is a GPU, the default is one process:
        each holds a CUDA context of its own, and all take turns on the GPU.

    Raises
    ------
    InputError
        If it is not an integer of at least 1.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    default = 1 if on_device and on_gpu(device()) else available or 1
    wanted = os.environ.get("WISE_WORKERS", str(default))
    if not wanted.isdigit() or int(wanted) < 1:
        raise InputError(f"WISE_WORKERS={wanted}: an integer of at least 1 is needed")
    return int(wanted)


def process_context() -> BaseContext:
    """Return the context that worker processes start in: forked from a server without threads.

    A fork of the main process would inherit locks that other threads hold, and the CUDA
    context. A spawned process would import torch again, which takes seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in _PRELOADED if name in sys.modules])
    return context


def start_worker() -> None:
    """Set up a worker process with one thread: results then do not depend on the CPU cores."""
    keep_freed_memory()
    # oneDNN caches a kernel, with its own memory, for every shape. Photographs have so many
    # different shapes that the memory of a worker would grow with their number.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's and SciPy's matrix products


def start_local_worker() -> None:
    """Set up a local worker process that ends with its parent, even if the parent is killed.

    Otherwise it would wait for work forever, and so would the server that forked it.
    """
    start_worker()
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch.

    On a CPU, deterministic algorithms are enabled: the same seed then gives the same bytes. On
    a GPU, some operations have no deterministic kernel, and for others, such as RoIAlign, it
    is many times slower.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries may use the global generator)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(not on_gpu(device()))
    # It would also fill every new tensor with NaN, to show reads of memory that was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
