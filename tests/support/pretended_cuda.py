"""A GPU that is pretended: tensors that say they are on "cuda:0" and hold their numbers on the CPU.

Code that asks `x.device.type == "cuda"` takes its branches for a GPU, with values. An operation on tensors of both
devices raises, as on a GPU, and each point at which the host would wait for the GPU is counted. It needs no compiler
and no CUDA build of torch, and it cannot show a kernel that does not exist, a race, or a speed.

An `OnCuda` has no memory of its own. To torch's C++ it lies on torch's device for other vendors (PrivateUse1), whose
guard of streams can be registered from Python; to Python it says "cuda:0". Two modes see every call and every operation
of the thread that enters `pretended_cuda`, those of its backward passes included.

Importing this module changes torch for the whole process, and has to come before its first backward pass. So what
imports it runs in a process of its own: see tests/test_pretended_gpu.py.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")
CUDA = torch.device("cuda:0")
_THERE = torch.device("pretended:0")
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default)
_READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""The operations whose result, or its shape, the host has to know: item, nonzero, bincount and others."""

WAITS: Counter[str] = Counter()
"""How often the host would have waited for the GPU, by operation."""


class OnCuda(Tensor):
    """A tensor on the pretended GPU; `held` has its numbers."""

    held: Tensor
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnCuda":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):  # or a view of a weight could not be made in inference mode
            made = Tensor._make_wrapper_subclass(cls, held.shape, **layout, device=_THERE)
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


def _computed(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU, and say of its results that they are where a GPU would leave them."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnCuda)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnCuda)]
    device = kwargs.get("device")
    ends_there = _is_there(device) if device is not None else bool(there)
    if not there and not ends_there:
        return operation(*args, **kwargs)
    if there and here and not _may_mix(operation, args, here):
        shapes = [list(tensor.shape) for tensor in here]
        raise RuntimeError(f"{operation}: tensors {shapes} are on the CPU and others on {CUDA}")
    if _waits(operation, args, kwargs, bool(here) or not ends_there):
        WAITS[str(operation)] += 1
    args, kwargs = tree_map_only(OnCuda, lambda tensor: tensor.held, (args, kwargs))
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    result = _product_into(*args) if operation is _aten.mm.dtype else operation(*args, **kwargs)
    # What an operation changes in place, and returns, stays the object that it was.
    same = {id(tensor.held): tensor for tensor in there}
    return (
        tree_map_only(Tensor, lambda t: same[id(t)] if id(t) in same else OnCuda(t), result) if ends_there else result
    )


def _is_there(device: Any) -> bool:
    return isinstance(device, str | torch.device) and str(device).startswith(("cuda", "pretended"))


def _may_mix(operation: Any, args: tuple[Any, ...], here: list[Tensor]) -> bool:
    """Whether CUDA allows it: a copy, one number beside many, or indices on the CPU of a tensor on the GPU."""
    if operation in _INDEXING:
        return all(any(tensor is index for index in args[1]) for tensor in here)
    return operation in _COPIES or (torch.Tag.pointwise in operation.tags and all(t.ndim == 0 for t in here))


def _waits(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], crosses: bool) -> bool:
    """Whether the host waits: for a number, for the length of a result, or for a copy between the devices."""
    if operation in _COPIES:
        blocking = not kwargs.get("non_blocking") and not (len(args) > 2 and args[2])
        return crosses and blocking
    if operation in _INDEXING:
        one = len(args) > 2 and args[2].numel() == 1  # becomes masked_fill
        masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return crosses or (masks and not one)
    return any(tag in operation.tags for tag in _READS)


def _product_into(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Compute a matrix product with another dtype of the result, which the CPU lacks."""
    return a.to(out_dtype) @ b.to(out_dtype)


class _Operations(TorchDispatchMode):
    """Sees what no `OnCuda` is in: the making of tensors, and moves to the GPU."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """Names the device as C++ knows it, and replaces calls that C++ answers without an operation."""

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if call is torch.Tensor.tolist and isinstance(args[0], OnCuda):
            return args[0].cpu().tolist()
        if call is torch.Tensor.new_tensor and isinstance(args[0], OnCuda):
            call, args, kwargs = torch.tensor, args[1:], {"dtype": args[0].dtype, "device": CUDA, **kwargs}
        if call is torch.Tensor.cuda:
            call, args = torch.Tensor.to, (args[0], CUDA)
        if call is torch.Tensor.to:
            args = tuple(_THERE if _is_there(value) else value for value in args)
        if _is_there(kwargs.get("device")):
            kwargs["device"] = _THERE
        if call in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            device = kwargs.pop("device")
            return call(*args, **kwargs).to(device)
        return call(*args, **kwargs)


@contextmanager
def pretended_cuda() -> Iterator[Counter[str]]:
    """Pretend in this thread that there is a GPU; yields `WAITS`."""
    with _Operations(), _Calls():
        yield WAITS


def held(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor of either device."""
    return tensor.held if isinstance(tensor, OnCuda) else tensor


torch.cuda._lazy_init = lambda: None
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.current_device = lambda: 0
torch.cuda.synchronize = lambda device=None: None
torch.Tensor.pin_memory = lambda self, device=None: self.clone()
