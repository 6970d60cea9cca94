"""Run by a peer's own python: `peer.py LIBRARY FOLDER`.

Every SAE in a subfolder ours-KIND encodes and decodes FOLDER/x.npy; into every subfolder theirs-KIND an SAE of the
library with random weights is written, and does the same. Codes go to z.npy beside it, reconstructions to x_hat.npy.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.modules["triton"] = None  # type: ignore[assignment]  # sparsify's kernels of it want a GPU

D, M, K = 32, 48, 3


def saelens(folder: Path, kind: str | None) -> Any:
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class, get_sae_training_class

    if kind is None:
        sae = SAE.load_from_disk(str(folder))
        return sae.encode, sae.decode
    training = kind in ("batchtopk", "matryoshka_batchtopk")
    make, config = (get_sae_training_class if training else get_sae_class)(kind)
    other = {"matryoshka_widths": [16, 32, M]} if kind == "matryoshka_batchtopk" else {}
    k = {"k": K} if "topk" in kind else {}
    norm = {"rescale_acts_by_decoder_norm": True} if "topk" in kind else {}
    sae = make(
        config(
            d_in=D,
            d_sae=M,
            dtype="float32",
            device="cpu",
            apply_b_dec_to_input=kind != "standard",
            **k,
            **other,
            **norm,
        )
    )
    stir(sae)
    if not training:
        sae.save_model(folder)
        return sae.encode, sae.decode
    sae.topk_threshold.fill_(0.4)
    sae.save_model(folder)
    sae.save_inference_model(folder / "inference")
    theirs = SAE.load_from_disk(str(folder / "inference"))
    return theirs.encode, theirs.decode


def sparsify(folder: Path, kind: str | None) -> Any:
    from sparsify import SparseCoder, SparseCoderConfig

    if kind is None:
        sae = SparseCoder.load_from_disk(folder)
    else:
        sae = SparseCoder(D, SparseCoderConfig(num_latents=M, k=K))
        stir(sae)
        sae.save_to_disk(folder)

    def encode(x: torch.Tensor) -> torch.Tensor:
        values, columns, _ = sae.encode(x)
        return torch.zeros(len(x), M).scatter(1, columns, values)

    def decode(z: torch.Tensor) -> torch.Tensor:
        values, columns = z.topk(K, 1)
        return sae.decode(values, columns)

    return encode, decode


def dictionary_learning(folder: Path, kind: str | None) -> Any:
    from dictionary_learning import dictionary, utils
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    if kind is None:
        name = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
        if name == "AutoEncoder":
            sae = dictionary.AutoEncoder.from_pretrained(str(folder / "ae.pt"), device="cpu", normalize_decoder=False)
        else:
            sae, _ = utils.load_dictionary(str(folder), device="cpu")
        return sae.encode, sae.decode
    classes = {found.__name__: found for found in (AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE)}
    make = classes.get(kind) or getattr(dictionary, kind)
    k = {"k": K} if "TopK" in kind else {}
    groups = {"group_sizes": [16, 16, 16]} if kind == "MatryoshkaBatchTopKSAE" else {}
    sae = make(D, M, **k, **groups)
    stir(sae)
    if hasattr(sae, "threshold") and kind != "AutoEncoderTopK":
        sae.threshold.data.fill_(0.4)
    torch.save(sae.state_dict(), folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": kind, **k}, "buffer": {}}))
    return sae.encode, sae.decode


def stir(sae: torch.nn.Module) -> None:
    """No zero, no symmetry, no unit norm."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.2 * torch.randn_like(parameter)


@torch.no_grad()
def main(library: str, folder: Path) -> None:
    x = torch.from_numpy(np.load(folder / "x.npy"))
    for part in sorted(part for part in folder.iterdir() if part.is_dir()):
        whose, kind = part.name.split("-")
        encode, decode = globals()[library](part, kind if whose == "theirs" else None)
        z = encode(x)
        np.save(part / "z.npy", z.numpy())
        np.save(part / "x_hat.npy", decode(z).numpy())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
