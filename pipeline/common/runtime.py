"""What the machine decides and no result depends on: device, workers, memory, random states."""

import ctypes
import math
import multiprocessing
import os
import random
import sys
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

# Imported once, for all worker processes, where this one uses them: they take seconds.
_PRELOADED = ["torch", "torchvision", "timm", "zarr", "pycocotools.mask"]

# glibc's names for what mallopt changes (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the next step of the same shapes.

    By default it hands every large tensor back to the kernel and asks for it again, which
    costs a training step on a CPU more than its arithmetic.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def device() -> torch.device:
    """The device that `WISE_DEVICE` asks for: `cpu`, `cuda`, or `auto` (the default).

    Raises
    ------
    InputError
        For another value, or for `cuda` where torch sees no GPU.
    """
    wanted = os.environ.get("WISE_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"WISE_DEVICE={wanted}: allowed are auto, cpu and cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("WISE_DEVICE=cuda: torch sees no GPU here; unset it, or set it to cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def channels_last(value: Placed, where: torch.device) -> Placed:
    """Move a network, or images (n, c, h, w), to a device, with channels last in memory.

    Convolutions are fastest in this memory format, on CPUs and GPUs alike.
    """
    layout = torch.channels_last
    return cast("Placed", value.to(where, non_blocking=True, memory_format=layout))  # type: ignore[call-overload]


def autocast(where: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU, and in float32 on a CPU."""
    return torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda")


def is_main_process() -> bool:
    """Whether this is the one process that writes: the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def seconds_between_checkpoints() -> float:
    """How often a training keeps its state: `WISE_CHECKPOINT_SECONDS`, by default a minute.

    Raises
    ------
    InputError
        If it is set to something else than a number of at least 0.
    """
    wanted = os.environ.get("WISE_CHECKPOINT_SECONDS", "60")
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InputError(f"WISE_CHECKPOINT_SECONDS={wanted}: a number of at least 0 is needed")
    return seconds


def workers() -> int:
    """Processes beside the main one: `WISE_WORKERS`, by default one a CPU core.

    Raises
    ------
    InputError
        If it is set to something else than a whole number of at least 1.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get("WISE_WORKERS", str(available or 1))
    if not wanted.isdigit() or int(wanted) < 1:
        raise InputError(f"WISE_WORKERS={wanted}: a whole number of at least 1 is needed")
    return int(wanted)


def process_context() -> BaseContext:
    """How worker processes are started: forked from a server that has no threads.

    A fork of the main process would inherit the locks of its threads as they stand, and its
    CUDA context; a process from scratch would import torch anew.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in _PRELOADED if name in sys.modules])
    return context


def start_worker() -> None:
    """Prepare a worker process: one thread, so that no result depends on their number."""
    keep_freed_memory()
    # oneDNN keeps a kernel, with memory of its own, for every shape it has met; photographs
    # come in so many that a worker would grow with their number.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's and SciPy's matrix products


def start_local_worker() -> None:
    """Prepare a worker process of this one, which ends when this one does, even killed.

    Left alone it would wait for work for ever, and with it the server that forked it.
    """
    start_worker()
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch; on a CPU, compute deterministically.

    There the same seed then gives the same bytes. On a GPU some operations have no
    deterministic kernel, and others, as RoIAlign, only one that is many times slower.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what a library may draw from)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(device().type == "cpu")
