"""Kind "onnx": any exported image encoder with one image input and one embedding tensor.

Legend: N images, S side, C channels of the model's input, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from medsae_ray.core.encoders.base import Encoder, EncoderOptions
from medsae_ray.core.encoders.checkpoint import content_hash
from medsae_ray.core.encoders.onnx_files import local
from medsae_ray.core.encoders.onnx_graph import (
    candidates,
    cut,
    named,
    outside_files,
    read_graph,
    score_signs,
    takes_channels_last,
)
from medsae_ray.core.encoders.onnx_input import Layout, Taken, taken
from medsae_ray.core.encoders.torch_encoder import Channels, Fit, Mean, Side, Std
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError
from medsae_ray.options import Checked

if TYPE_CHECKING:
    from onnx import ModelProto

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FOLDER = "session.model_external_initializers_file_folder_path"
"""The session option of onnxruntime for the folder of the external files of a model that is given as bytes."""


def _without_patches(tokens: Any) -> Any:
    if tokens != "pooled":
        raise ValueError("an onnx encoder gives one embedding per image, it has no patch tokens; leave tokens out")
    return tokens


@dataclass(frozen=True, kw_only=True)
class OnnxOptions(EncoderOptions):
    """An exported encoder of your own; how.paths.weights names the .onnx file."""

    needs = "the .onnx file"
    library = "onnxruntime"
    usual = MappingProxyType({"size": 224})
    later = frozenset({"layout", "tokens"})
    kind: Literal["onnx"]
    tokens: Annotated[Literal["pooled"], Checked(_without_patches, before=True)] = "pooled"
    """Unit that the SAE learns from: an exported encoder gives one embedding per image."""
    size: Side
    """Side of the square input, in pixels."""
    channels: Channels = "RGB"
    """Grey (one channel) or colour (three; grey images are repeated)."""
    mean: Mean = 0.0
    """Mean, subtracted after scaling pixels to 0..1, one value or one per channel."""
    std: Std = 1.0
    """Standard deviation, which divides after the mean is subtracted."""
    fit: Fit = "stretch"
    """Way to make an image square: black border, resize, or centre crop."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of the resize."""
    layout: Layout | None = None
    """Layout of the model's input; null reads it from the input's shape."""
    input_name: str | None = None
    """Name of the model's input; needed only if several lead to the output."""
    output_name: str | None = None
    """Name of the model's output, or of any tensor inside it, for example if the model ends in classes; needed only
    if it has several outputs."""

    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "Onnx":
        """Load `weights`: an .onnx file or its https URL."""
        return Onnx(self, weights, device, threads)

    def preprocess(self, weights: str | None = None) -> Preprocess:
        """Return the one given by the options; no file is read."""
        return Preprocess(self.size, self.channels, self.fit, self.resample)

    def locate(self, weights: str | None = None) -> Path:
        """Locate the file; of a URL, the external files of the model are downloaded too."""
        return local(weights) if weights else super().locate(weights)

    def local(self, weights: str) -> str:
        """Copy a model from an object store to this machine; a path or a web address stays as it is."""
        here = "://" not in weights or weights.startswith(("http://", "https://"))
        return weights if here else str(local(weights))

    def notes(self, weights: str, dim: int) -> dict[str, Any]:
        """Return the reason why its output looks like scores of classes, if it does."""
        path = self.locate(self.local(weights))
        whole = read_graph(path)
        graph = _chosen(path, whole, self.output_name)
        output = graph.graph.output[0].name
        signs = score_signs(graph, output, dim)
        text = f"output {output!r} looks like scores of classes: {signs}. Tensors inside the model: {candidates(whole)}"
        return {"class_scores": text} if signs else {}

    def content_hash(self, path: Path) -> str:
        """Hash the model together with any external data files that it names."""
        return content_hash(path, onnx=True)


class Onnx(Encoder):
    """An ONNX model [N, C, S, S] or [N, S, S, C] -> [N, D]; trailing axes of length 1 are dropped.

    A pixel becomes (x/255 - mean) / std; a model of uint8 takes pixels as they are. With channels L and a model of
    three input channels, grey is repeated. Operations after `output_name`, and inputs that it does not need, are left
    out. A model exported with a fixed batch is run in batches of that size, the last one filled up with black.
    """

    kind = "onnx"

    def __init__(self, options: OnnxOptions, weights: str | None, device: str, threads: int | None) -> None:
        if not weights:
            raise EncoderError("encoder 'onnx': weights must name an .onnx file or its https URL")
        self.preprocess, self._path = options.preprocess(), options.locate(weights)
        model = read_graph(self._path)
        outside_files(self._path, model)
        graph = _chosen(self._path, model, options.output_name)
        self._session = _open(self._path, None if graph is model else graph, device, threads)
        self._output = self._session.get_outputs()[0]
        found = self._only_input(options.input_name)
        last = takes_channels_last(graph, found.name)
        self._input: Taken = taken(found, self.preprocess, options.layout, last, str(self._path))
        self._mean = _per_channel("mean", options.mean, self._input)
        self._std = _per_channel("std", options.std, self._input)
        if (self._std <= 0).any():
            raise EncoderError(f"encoder 'onnx': std {options.std} must be positive")
        self._as_they_are(options.mean, options.std)
        self.dim = self._probe()

    def _only_input(self, name: str | None) -> Any:
        found = self._session.get_inputs()
        names = [argument.name for argument in found]
        if name is not None and name not in names:
            raise EncoderError(f"{self._path}: input {name!r} does not exist; the model has {', '.join(names)}")
        if len(found) != 1:
            raise EncoderError(
                f"{self._path}: {len(found)} inputs, {named(found)}; one image input is needed. An output_name that "
                f"takes only the image does without the others; inside the model: {self._inside()}"
            )
        return found[0]

    def _as_they_are(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        if self._input.dtype == np.uint8 and not (np.all(np.asarray(mean) == 0) and np.all(np.asarray(std) == 1)):
            raise EncoderError(f"{self._path}: the model takes pixels as they are (uint8); leave mean and std out")

    def _inside(self) -> str:
        return candidates(read_graph(self._path))

    def _probe(self) -> int:
        """Return D of one black image, which also proves that the model runs."""
        black = np.zeros((1, *self.preprocess.shape), np.uint8)
        dim: int = self._forward(black).shape[1]
        return dim

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        step = self._input.batch or len(pixels)
        return np.concatenate([self._run(pixels[i : i + step], step) for i in range(0, len(pixels), step)])

    def _run(self, pixels: np.ndarray, step: int) -> np.ndarray:
        n = len(pixels)
        x = self._values(np.concatenate([pixels, np.zeros((step - n, *pixels.shape[1:]), np.uint8)]))
        try:
            out = np.asarray(self._session.run([self._output.name], {self._input.name: x})[0])
        except Exception as error:  # onnxruntime has a class of exception for each way to fail
            raise EncoderError(
                f"{self._path}: the model fails on {list(x.shape)}, {self._input.layout.replace('_', ' ')}; the option "
                f"layout may say otherwise ({error})"
            ) from error
        where = f"{self._path}: output {self._output.name!r} has shape {list(out.shape)} of {out.dtype}"
        if out.ndim < 2 or len(out) != step or int(np.prod(out.shape[2:])) != 1 or out.dtype.kind != "f":
            what = "a feature map or tokens, which are not pooled here" if out.ndim > 2 else "no embedding"
            raise EncoderError(
                f"{where} for {step} images: {what}. Floating point numbers [N, D] are needed, choose another "
                f"output_name: {self._inside()}"
            )
        return out.reshape(step, -1)[:n].astype(np.float32)

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        """Convert uint8 [N, S, S] or [N, S, S, 3] to the model's input."""
        x_NHWC = pixels.reshape(*pixels.shape[:3], -1)
        x_NHWC = np.broadcast_to(x_NHWC, (*x_NHWC.shape[:3], self._input.channels))
        if self._input.dtype != np.uint8:
            x_NHWC = (x_NHWC.astype(np.float32) / np.float32(255) - self._mean) / self._std
        x = x_NHWC if self._input.layout == "channels_last" else x_NHWC.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(x, dtype=self._input.dtype)


def _chosen(path: Path, model: "ModelProto", name: str | None) -> "ModelProto":
    """Return the model itself if it has only the wanted output, else the part of it that makes the output."""
    outputs = [output.name for output in model.graph.output]
    if name is None and len(outputs) > 1:
        raise EncoderError(
            f"{path}: output must be chosen by name (output_name); the model has {', '.join(outputs)}, and "
            f"inside it {candidates(model)}"
        )
    if name is None or outputs == [name]:
        return model
    part = cut(model, name)
    if part is None:
        raise EncoderError(
            f"{path}: output {name!r} does not exist; the model has {', '.join(outputs)}, and inside it "
            f"{candidates(model)}"
        )
    return part


def _open(path: Path, part: "ModelProto | None", device: str, threads: int | None) -> Any:
    import onnxruntime as ort

    wanted = _PROVIDERS[device]
    if wanted not in ort.get_available_providers():
        raise EncoderError(
            f"device is {device!r}, but this onnxruntime has only {', '.join(ort.get_available_providers())}"
        )
    if device == "cuda":
        import torch  # noqa: F401  # it brings CUDA and cuDNN, which onnxruntime finds once they are loaded

        ort.preload_dlls()
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry(_FOLDER, str(path.parent))
    try:
        source = path if part is None else part.SerializeToString()
        session = ort.InferenceSession(source, options, providers=[wanted])
    except Exception as error:  # onnxruntime has a class of exception for each way a model can be wrong
        raise EncoderError(f"weights {path}: onnxruntime cannot load it ({type(error).__name__}: {error})") from error
    # That a build has a provider does not say that its libraries load; onnxruntime then takes the CPU and only logs it.
    if session.get_providers()[0] != wanted:
        raise EncoderError(
            f"device is {device!r}, but onnxruntime fell back to {session.get_providers()[0]}: the libraries of CUDA "
            "or cuDNN do not load. Install an onnxruntime-gpu for the CUDA of the installed torch"
        )
    return session


def _per_channel(name: str, value: float | Sequence[float], found: Taken) -> np.ndarray:
    """Return float32 [1] or [C], to broadcast over [N, H, W, C]."""
    try:
        array = np.atleast_1d(np.asarray(value, np.float32))
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.shape not in ((1,), (found.channels,)):
        raise EncoderError(f"encoder 'onnx': {name} {value} must be one number or {found.channels}, one per channel")
    if not np.isfinite(array).all() or (name == "mean" and (np.abs(array) > 1).any()):
        raise EncoderError(
            f"encoder 'onnx': {name} {value} must be of finite numbers in units of 0..1: pixels are divided by 255 "
            "first, so a mean of 123.7 is 0.485"
        )
    return array
