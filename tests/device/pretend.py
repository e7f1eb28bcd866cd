"""A pretend GPU: a device of torch (PrivateUse1) whose tensors keep their values in CPU memory.

What CUDA refuses is refused: tensors of two devices in one operation, NumPy arrays of tensors on
the device, non-maximum suppression in bfloat16. Autocast casts in the operations in which CUDA's
does. Convolutions and matrix products of float32 tensors round their input to TF32 where cuDNN and
cuBLAS are allowed to. That, and all that makes the host wait for a GPU, is recorded with the line
of the project that causes it.

It computes at once, on the CPU. So it shows neither races nor the memory and speed of a GPU.
"""

import re
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from unittest.mock import patch

import torch
import torchvision  # noqa: F401 (registers its operations)
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pipeline.common import runtime
from tests.support import ROOT

NAME = "pretend"
# From pageable memory, smaller copies are taken over by the driver at once (CUDA's documentation
# of cudaMemcpyAsync).
STAGED_BYTES = 2**16

aten = torch.ops.aten
# Operations whose result, or its size, the host has to know.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.bincount.default,
    torch.ops.torchvision.nms.default,
}
READS = {aten.index.Tensor, aten._unsafe_index.Tensor}
WRITES = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}
CONVOLUTIONS = {aten.convolution.default, aten.convolution_backward.default}
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


class Wait(NamedTuple):
    """What makes the host wait for the device.

    reason : a copy, or the name of an operation.
    line : file and line of the project.
    """

    reason: str
    line: str


waits: list[Wait] = []
roundings: list[str] = []  # lines of the project that compute in TF32
_libraries: list[Library] = []  # registrations last as long as these


class DeviceTensor(Tensor):
    """A tensor on the device; `values` are its values in CPU memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    values: Tensor

    @staticmethod
    def __new__(cls, values):
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME, 0),
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})

    def __tensor_flatten__(self):
        """Make `nn.Module.to` put tensors of this class in the place of a module's."""
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return DeviceTensor(inner["values"])

    def __repr__(self):
        return f"DeviceTensor({self.values!r})"

    def __reduce_ex__(self, protocol):
        """Checkpoints hold CPU tensors."""
        return self.values.detach().__reduce_ex__(protocol)

    def numpy(self, *args, **kwargs):
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu()")

    __array__ = numpy

    def tolist(self):
        return self.cpu().tolist()


class Mode(TorchDispatchMode):
    """For operations that create tensors on the device, which receive none of its tensors."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_here(kwargs.get("device")) or any(map(_on_device, tree_leaves((args, kwargs)))):
            return compute(operation, args, kwargs)
        return operation(*args, **kwargs)


def compute(operation, args, kwargs):
    """Compute an operation on the device as CUDA would, or refuse it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    _refuse(operation, args, tensors)
    of_values = {id(tensor.values): tensor for tensor in filter(_on_device, tensors)}
    if operation in WAITING and of_values:
        _wait(operation.name())
    placed = dict(kwargs)
    if placed.get("device") is not None:
        placed["device"] = torch.device("cpu")
    if placed.get("pin_memory"):
        placed["pin_memory"] = False
    rounded = _is_rounded(operation, tensors)
    if rounded:
        roundings.append(_line(sys._getframe()))

    def values(leaf):
        if not _on_device(leaf):
            return leaf
        return _tf32(leaf.values) if rounded else leaf.values

    result = operation(*tree_map(values, args), **tree_map(values, placed))
    if operation in COPIES:
        here = _copied_here(operation, args, kwargs)
    elif kwargs.get("device") is not None:
        here = _is_here(kwargs["device"])
    else:
        here = bool(of_values)

    def wrapped(leaf):
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in of_values:  # computed in place
            return of_values[id(leaf)]
        return DeviceTensor(leaf) if here else leaf

    return tree_map(wrapped, result)


def pin_memory(tensor, device=None):
    """Return a tensor in page-locked memory."""
    pinned = tensor.detach().view(tensor.shape)
    pinned.is_page_locked = True
    return pinned


def _on_device(leaf):
    return isinstance(leaf, DeviceTensor)


def _is_here(device):
    return device is not None and torch.device(device).type == NAME


def _refuse(operation, args, tensors):
    """Raise the errors of CUDA."""
    name = operation.name()
    here = [tensor for tensor in tensors if _on_device(tensor)]
    elsewhere = [tensor for tensor in tensors if not _on_device(tensor)]
    if operation in READS | WRITES:
        _refuse_indices(operation, args)
    elif here and operation not in COPIES and any(tensor.dim() for tensor in elsewhere):
        raise RuntimeError(f"{name}: tensors on {NAME}:0 and on cpu, expected one device")
    if name.startswith("torchvision::nms") and any(t.dtype == torch.bfloat16 for t in here):
        raise RuntimeError(f'"{name}" not implemented for BFloat16')


def _refuse_indices(operation, args):
    """Raise for indices or values on another device; CUDA copies indices from the CPU."""
    target, indices = args[0], [index for index in args[1] if index is not None]
    written = args[2] if operation in WRITES else None
    if not _on_device(target):
        raise RuntimeError(f"{operation.name()}: indices on {NAME}:0, the tensor on cpu")
    if written is not None and written.dim() and not _on_device(written):
        raise RuntimeError(f"{operation.name()}: values on cpu, the tensor on {NAME}:0")
    for index in indices:
        if not _on_device(index):
            _wait("copy of indices from the host")
        # A single value is written where a mask is true, without the number of places.
        elif index.dtype in (torch.bool, torch.uint8) and (written is None or written.numel() > 1):
            _wait("indexing by a mask")


def _copied_here(operation, args, kwargs):
    """Whether a copy ends on the device; record it if the host waits for it."""
    if operation is aten.copy_.default:
        target, source = args[:2]
        here, queued = _on_device(target), len(args) > 2 and args[2]
    else:
        source, device = args[0], kwargs.get("device")
        here = _on_device(source) if device is None else _is_here(device)
        queued = kwargs.get("non_blocking", False)
    if _on_device(source) and not here:
        _wait("copy to the host")
    if here and not _on_device(source):
        staged = source.nbytes <= STAGED_BYTES or getattr(source, "is_page_locked", False)
        if not (queued and staged):
            _wait("copy from the host")
    return here


def _is_rounded(operation, tensors):
    """Whether the input of an operation is rounded to TF32."""
    if not any(_on_device(tensor) and tensor.dtype == torch.float32 for tensor in tensors):
        return False
    if operation in CONVOLUTIONS:
        return torch.backends.cudnn.allow_tf32
    return operation in PRODUCTS and torch.backends.cuda.matmul.allow_tf32


def _tf32(values):
    """Round float32 to the 10 bits of TF32's mantissa."""
    if values.dtype != torch.float32:
        return values
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def _wait(reason):
    waits.append(Wait(reason, _line(sys._getframe())))


def _line(frame: FrameType | None) -> str:
    """Give the innermost line of the project."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "tests" / "device"):
            return f"{file.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "in a backward pass"


class _Module(backend_registration._DummyBackendModule):
    """For the device what `torch.cuda` is for CUDA."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16, torch.float32]

    def synchronize(self, device=None):
        _wait("synchronize")

    def set_device(self, device):
        pass

    def max_memory_reserved(self, device=None):
        return 0


@contextmanager
def in_use():
    """Make it the device of the project, in this process."""
    register()
    waits.clear()
    roundings.clear()
    with (
        patch.object(runtime, "device", lambda: torch.device(NAME, 0)),
        patch.object(Tensor, "pin_memory", pin_memory),
        # In inference mode, operations that consist of others would reach the device whole.
        patch.object(torch.inference_mode, "__enter__", _no_grad),
        Mode(),
    ):
        yield


def _no_grad(mode):
    mode._inference_mode_context = torch.no_grad()
    mode._inference_mode_context.__enter__()


@cache
def register() -> None:
    """Register the device with torch; a process can do this once, and not undo it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library = Library("aten", "IMPL")
    # Both are called for `torch.tensor(..., device=...)`, which `Mode` does not see.
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    _libraries.append(library)
    _autocast_as_cuda()


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    return DeviceTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source, target, non_blocking=False):
    _wait("copy from the host")
    target.values.copy_(source)
    return target


def _autocast_as_cuda():
    """Cast in the operations in which CUDA's autocast does, which a header of torch lists."""
    fallback = Library("_", "IMPL")
    fallback.fallback(fallthrough_kernel, "AutocastPrivateUse1")
    operations = Library("aten", "IMPL")
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()
    for macro, dtype in (
        ("AT_FORALL_LOWER_PRECISION_FP", None),
        ("AT_FORALL_FP32", torch.float32),
        ("AT_FORALL_FP32_SET_OPT_DTYPE", torch.float32),
    ):
        body = re.search(rf"define {macro}\(_\)(.*?)#define", header, re.DOTALL)[1]
        for name, overload in re.findall(r"_\((\w+)(?:,\s*(\w+))?\)", body):
            full_name = f"{name}.{overload}" if overload else name
            if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{full_name}", "AutocastCUDA"):
                operation = getattr(getattr(aten, name), overload or "default")
                operations.impl(full_name, _casting(operation, dtype), "AutocastPrivateUse1")
    vision = Library("torchvision", "IMPL")
    ops = torch.ops.torchvision
    align = _casting(ops.roi_align.default, torch.float32)
    kernels = {
        "roi_align": lambda cells, *rest: align(cells, *rest).to(cells.dtype),
        "nms": _casting(ops.nms.default, torch.float32),
    }
    for name, kernel in kernels.items():
        vision.impl(name, kernel, "AutocastPrivateUse1")
    _libraries.extend([fallback, operations, vision])


def _casting(operation, dtype):
    """Give the operation with its floating-point tensors cast to a dtype, or to autocast's."""
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(leaf):
        castable = isinstance(leaf, Tensor) and leaf.is_floating_point()
        if not castable or leaf.dtype == torch.float64:
            return leaf
        return leaf.to(dtype or torch.get_autocast_dtype(NAME))

    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(key):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return kernel
