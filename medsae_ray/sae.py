"""A trained sparse autoencoder to work with, opened by `medsae_ray.load_sae`.

Legend: N embeddings, D their dimension, M features. torch is imported on first use, so importing the package is light.
"""

from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from medsae_ray.core.artifacts.artifact import Artifact
    from medsae_ray.core.sae.checkpoint import StoredSAE
    from medsae_ray.core.sae.config import SAEConfig
    from medsae_ray.core.sae.model import SAE

    TensorT = TypeVar("TensorT", bound=Tensor)


class SaeInput(NamedTuple):
    """The normalisation of embeddings in training, which is folded into the weights of `Sae`."""

    kind: str
    """The kind: "centre": scale (x - mean), times `there` if there is one; "none": x itself; "l2": x / ||x||. The
    last two use mean and scale only to measure errors."""
    mean: "Tensor"
    """The mean of the training embeddings [D]."""
    scale: float
    """The scale sqrt(D / E||x - mean||^2) over them."""
    there: "Tensor | None"
    """The whitening [D, D], which is symmetric; None without whitening."""


class Sae:
    """A trained sparse autoencoder on raw (not normalised) embeddings.

    z = activate((x - b_dec) W_enc + b_enc) and x_hat = z W_dec + b_dec, with float32 weights on `device`, the same as
    in an export to SAELens. Two kinds differ: an SAE of unit-norm embeddings (normalisation "l2") takes x / ||x|| for
    x, and a gated one has `gates` in place of b_enc.
    """

    def __init__(self, stored: "StoredSAE", artifact: "Artifact | None" = None) -> None:
        from medsae_ray.core.sae.formats.fold import folded

        self._stored, self.artifact = stored, artifact
        plain = stored.sae if stored.config.normalisation == "l2" else folded(stored).sae
        self._weights: dict[str, Tensor] = {name: tensor.detach() for name, tensor in plain.state_dict().items()}

    def __repr__(self) -> str:
        d_in, width = self.W_enc.shape
        return f"Sae({self.config.architecture}, D={d_in}, M={width}, device={str(self.device)!r})"

    def encode(self, x: "ArrayLike | Tensor") -> Any:
        """Encode embeddings [N, D] as activations float32 [N, M], all >= 0.

        A torch tensor gives a tensor on its own device, without gradients; an array or nested lists of real numbers
        give an array. Raises ValueError for another shape, NaN or Inf.
        """
        return self._call(self._stored.sae.encode, x, "embeddings")

    def decode(self, z: "ArrayLike | Tensor") -> Any:
        """Decode activations [N, M] to embeddings float32 [N, D]; accepts and refuses the same values as `encode`."""
        return self._call(self._stored.sae.decode, z, "activations")

    @property
    def W_enc(self) -> "Tensor":
        """The encoder [D, M]: a column for each feature."""
        return self._weights["W_enc"]

    @property
    def W_dec(self) -> "Tensor":
        """The decoder [M, D]: a row for each feature, its direction among raw embeddings; not of unit norm."""
        return self._weights["W_dec"]

    @property
    def b_enc(self) -> "Tensor | None":
        """The encoder's bias [M]; None for a gated SAE."""
        return self._weights.get("b_enc")

    @property
    def b_dec(self) -> "Tensor":
        """The decoder's bias [D]."""
        return self._weights["b_dec"]

    @property
    def gates(self) -> "dict[str, Tensor]":
        """The further tensors that decide which features are active: `threshold`, or b_gate, b_mag and r_mag of a
        gated SAE; each [M] or []."""
        known = ("threshold", "b_gate", "b_mag", "r_mag")
        return {name: self._weights[name] for name in known if name in self._weights}

    @property
    def config(self) -> "SAEConfig":
        """The settings of its training: architecture, width, k, ..."""
        return self._stored.config

    @property
    def normalisation(self) -> SaeInput:
        """The normalisation of embeddings in training."""
        sae = self._stored.sae
        return SaeInput(sae.kind, sae.mean, float(sae.scale), sae.there)

    @property
    def module(self) -> "SAE":
        """The torch module, for gradients: its own weights apply to normalised embeddings."""
        return self._stored.sae

    @property
    def device(self) -> Any:
        """The torch.device of its computations."""
        return self.W_enc.device

    def to(self, device: Any) -> Self:
        """Move it to a device, for example "cuda", and return it."""
        self._stored.sae.to(device)
        self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}
        return self

    def save(self, folder: str | PathLike[str], format: str = "saelens", *, overwrite: bool = False) -> list[str]:
        """Write it as the checkpoint of another library: "saelens", "dictionary_learning", "sparsify" or "sail".

        Returns the files' addresses. Raises RecipeError for an unknown format, and ArtifactError if the format cannot
        hold this SAE or `folder` (a path or URI) holds other files; `overwrite` replaces those of the same name.
        """
        from medsae_ray.core.artifacts.store import Store
        from medsae_ray.core.sae.formats.convert import write_checkpoint

        store = Store(str(folder))
        return [store.address(name) for name in write_checkpoint(self._at_home(), format, store, overwrite=overwrite)]

    def _at_home(self) -> "StoredSAE":
        """Return the SAE on the CPU, from which files are written."""
        from copy import deepcopy

        stored = self._stored
        return stored if self.device.type == "cpu" else stored._replace(sae=deepcopy(stored.sae).cpu())

    def _call(self, function: Any, values: Any, what: str) -> Any:
        import torch

        tensor = _real(values, what)
        with torch.no_grad():
            found = function(tensor.to(self.device))
        return found.to(values.device) if isinstance(values, torch.Tensor) else found.cpu().numpy()


def _real(values: Any, what: str) -> "Tensor":
    """Convert to float32 on the same device. Raises ValueError unless all values are finite real numbers."""
    import numpy as np
    import torch

    if not isinstance(values, torch.Tensor):
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{what} are rows of different lengths ({error})") from error
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{what} are {array.dtype} {list(array.shape)}; real numbers are wanted")
        with np.errstate(over="ignore"):  # too large a value becomes Inf, which is refused below
            values = torch.as_tensor(array.astype(np.float32))
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{what} are {values.dtype} {list(values.shape)}; real numbers are wanted")
    plain: Tensor = values.detach().to(torch.float32).contiguous()
    if not plain.isfinite().all():
        first = (~plain.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{what} {list(plain.shape)} hold NaN or Inf (in float32), first at {first}")
    return plain
