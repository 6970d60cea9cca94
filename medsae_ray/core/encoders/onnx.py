"""Kind "onnx": any exported image encoder with one image input and one embedding output.

Legend: N images, S side, C channels of the model's input, D embedding dimension.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medsae_ray.core.encoders.base import Encoder
from medsae_ray.core.encoders.checkpoint import resolve
from medsae_ray.core.images import Preprocess
from medsae_ray.errors import EncoderError

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Onnx(Encoder):
    """An ONNX model [N, C, S, S] -> [N, D]; trailing axes of length 1 are dropped.

    Options: `size`, `channels`, `fit`, `resample` as in Preprocess. A pixel becomes (x/255 - mean) / std, where `mean`
    and `std` are one number or one per channel, in units of 0..1. `input_name` and `output_name` are needed only
    where the model has several. With channels="L" and a model of three input channels, grey is repeated.
    A model exported with a fixed batch is run in batches of that size, the last one filled up with black.
    """

    kind = "onnx"

    def __init__(
        self,
        weights: str | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
        size: int = 224,
        channels: Literal["L", "RGB"] = "RGB",
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        fit: Literal["pad", "stretch", "crop"] = "stretch",
        resample: Literal["bicubic", "bilinear"] = "bilinear",
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        if not weights:
            raise EncoderError("encoder 'onnx': weights must name an .onnx file or its https URL")
        self.preprocess = self.preprocess_for(weights, size=size, channels=channels, fit=fit, resample=resample)
        self._path = resolve(weights)
        self._session = _open(self._path, device, threads)
        self._input = _pick(self._session.get_inputs(), input_name, f"{self._path}: input")
        self._output = _pick(self._session.get_outputs(), output_name, f"{self._path}: output")
        self._batch, n_channels = self._read_input()
        self._mean = _per_channel("mean", mean, n_channels)
        self._std = _per_channel("std", std, n_channels)
        self._n_channels = n_channels
        if (self._std <= 0).any():
            raise EncoderError(f"encoder 'onnx': std {std} must be positive")
        self.dim = self._probe()

    @classmethod
    def preprocess_for(
        cls,
        weights: str | None = None,
        *,
        size: int = 224,
        channels: Literal["L", "RGB"] = "RGB",
        fit: Literal["pad", "stretch", "crop"] = "stretch",
        resample: Literal["bicubic", "bilinear"] = "bilinear",
        **others: Any,
    ) -> Preprocess:
        return Preprocess(size, channels, fit, resample)

    def _read_input(self) -> tuple[int | None, int]:
        """(the fixed batch size or None, C). EncoderError where the model does not read such images."""
        shape, kind = self._input.shape, self._input.type
        where = f"{self._path}: input {self._input.name!r} is {kind} {shape}"
        if kind not in _DTYPES or len(shape) != 4:
            raise EncoderError(f"{where}; a float [N, C, S, S] is needed")
        batch, n_channels, *sides = (n if isinstance(n, int) else None for n in shape)
        size = self.preprocess.size
        if any(side not in (None, size) for side in sides):
            raise EncoderError(f"{where}; it does not take size {size}, set the option size")
        own = len(self.preprocess.channels)
        if n_channels not in (None, own) and not (own == 1 and n_channels == 3):
            raise EncoderError(
                f"{where}; it does not take channels {self.preprocess.channels!r}, set the option channels"
            )
        return batch, n_channels or own

    def _probe(self) -> int:
        """D of one black image, which also shows that the model runs."""
        black = np.zeros((1, *self.preprocess.shape), np.uint8)
        return self._forward(black).shape[1]

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        step = self._batch or len(pixels)
        return np.concatenate([self._run(pixels[i : i + step], step) for i in range(0, len(pixels), step)])

    def _run(self, pixels: np.ndarray, step: int) -> np.ndarray:
        n = len(pixels)
        x_NCHW = self._normalise(np.concatenate([pixels, np.zeros((step - n, *pixels.shape[1:]), np.uint8)]))
        try:
            out = self._session.run([self._output.name], {self._input.name: x_NCHW})[0]
        except Exception as error:  # onnxruntime has a class of exception for each way to fail
            raise EncoderError(f"{self._path}: the model fails on {list(x_NCHW.shape)} ({error})") from error
        where = f"{self._path}: output {self._output.name!r} has shape {list(out.shape)}"
        if out.ndim < 2 or len(out) != step or int(np.prod(out.shape[2:])) != 1:
            raise EncoderError(f"{where} for {step} images; [N, D] is needed, choose another output_name")
        return out.reshape(step, -1)[:n].astype(np.float32)

    def _normalise(self, pixels: np.ndarray) -> np.ndarray:
        x_NHWC = pixels.reshape(*pixels.shape[:3], -1).astype(np.float32) / np.float32(255)
        x_NCHW = np.broadcast_to(x_NHWC.transpose(0, 3, 1, 2), (len(pixels), self._n_channels, *pixels.shape[1:3]))
        x_NCHW = (x_NCHW - self._mean) / self._std
        return np.ascontiguousarray(x_NCHW, dtype=_DTYPES[self._input.type])


def _open(path: Path, device: str, threads: int | None) -> Any:
    import onnxruntime as ort

    if _PROVIDERS[device] not in ort.get_available_providers():
        raise EncoderError(
            f"device is {device!r}, but this onnxruntime has only {', '.join(ort.get_available_providers())}"
        )
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(path, options, providers=[_PROVIDERS[device]])
    except Exception as error:  # onnxruntime has a class of exception for each way a model can be wrong
        raise EncoderError(f"weights {path}: onnxruntime cannot load it ({type(error).__name__}: {error})") from error


def _pick(arguments: Sequence[Any], name: str | None, where: str) -> Any:
    """The only argument, or the one called `name`."""
    names = [argument.name for argument in arguments]
    if name is None and len(names) == 1:
        return arguments[0]
    if name not in names:
        found = "must be chosen by name" if name is None else f"{name!r} does not exist"
        raise EncoderError(f"{where} {found}; the model has {', '.join(names)}")
    return arguments[names.index(name)]


def _per_channel(name: str, value: float | Sequence[float], n_channels: int) -> np.ndarray:
    """float32 [1, 1, 1] or [C, 1, 1], to broadcast over [N, C, H, W]."""
    array = np.atleast_1d(np.asarray(value, np.float32))
    if array.shape not in ((1,), (n_channels,)):
        raise EncoderError(f"encoder 'onnx': {name} {value} must be one number or {n_channels}, one per channel")
    return array[:, None, None]
