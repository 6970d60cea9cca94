"""Train the small encoder that ships with the package, on synthetic radiographs alone.

    python jobs/train_phantom_encoder.py --out medsae_ray/core/phantom/weights/encoder.safetensors

The network is MedCLIP's vision transformer at a small geometry. It learns the planted findings (and view, sex, age and
the two planted shortcuts) by binary cross-entropy on linear heads, which are then dropped. Because each finding can be
taken out of a study, the difference of two renderings shows its place; a head on the tokens learns that too, which
compensates for the few images that a CPU can train on. The encoder is a toy for trying the software: it has never seen
a medical image and is of no use on one.

Legend: N images, S side, D embedding dimension, T tokens (a square grid), F findings, A attributes.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.encoders.medclip import SwinGeometry, save_vit
from medsae_ray.core.encoders.networks import VitTower, load_released
from medsae_ray.core.phantom import FINDINGS, TRAINING_SEEDS, Study, patient
from medsae_ray.core.phantom.render import place, render
from medsae_ray.core.phantom.tower import embed, normalise, untrained

GEOMETRY = SwinGeometry(
    image_size=224, patch_size=8, embed_dim=32, depths=(1, 1, 2), num_heads=(2, 4, 8), window_size=7, projection=128
)
ATTRIBUTES = ("sex", "view", "scanner", "portable_marker", "age > 60")
TOKENS = GEOMETRY.image_size // GEOMETRY.patch_size // 2 ** (len(GEOMETRY.depths) - 1)  # a side
BATCH, RATE, DECAY, SHIFT = 16, 2e-3, 0.03, 5
SHIPPED = Path(__file__).parents[1] / "medsae_ray" / "core" / "phantom" / "weights" / "encoder.safetensors"


class Films(NamedTuple):
    """The rendered studies: x_NSS uint8; y_NF and a_NA float32, 0 or 1; w_NTF float32, a finding's share of a token."""

    x_NSS: Tensor
    y_NF: Tensor
    a_NA: Tensor
    w_NTF: Tensor


class Heads(nn.Module):
    """The heads that are trained and then dropped: linear on the embedding, and on the tokens for findings' places."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.findings = nn.Linear(dim, len(FINDINGS))
        self.attributes = nn.Linear(dim, len(ATTRIBUTES))
        self.spots = nn.Linear(width, len(FINDINGS))

    def loss(self, e_ND: Tensor, tokens_NTC: Tensor, films: Films) -> Tensor:
        """Compute the cross-entropy of findings, of their places (weight 2) and of attributes (weight 0.2)."""
        bce = functional.binary_cross_entropy_with_logits
        where = bce(self.spots(tokens_NTC), films.w_NTF, pos_weight=torch.tensor(4.0))
        return bce(self.findings(e_ND), films.y_NF) + 2 * where + 0.2 * bce(self.attributes(e_ND), films.a_NA)


def attributes(study: Study) -> tuple[bool, ...]:
    """Return the five attributes that are not findings, in the order of ATTRIBUTES."""
    return study.sex == "F", study.view == "AP", study.scanner == "B", study.portable_marker == 1, study.age > 60


def locate(study: Study, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return w_TF: the share of each token's pixels that a finding changes by > 8 grey levels, times 4, at most 1."""
    cell = GEOMETRY.image_size // TOKENS
    w_TF = np.zeros((TOKENS**2, len(FINDINGS)), np.float32)
    for k, name in enumerate(FINDINGS):
        if study.truth[name]:
            changed = place(study, name, image)
            w_TF[:, k] = changed.reshape(TOKENS, cell, TOKENS, cell).mean((1, 3)).ravel()
    share_TF: NDArray[np.float32] = np.minimum(4 * w_TF, 1)
    return share_TF


def draw(seed: int, patients: int, located: bool = False) -> Films:
    """Draw all films of the first `patients` patients of a seed; w_NTF stays 0 unless `located`."""
    studies = [study for number in range(patients) for study in patient(seed, number)]
    x_NSS = np.stack([render(study) for study in studies])
    w_NTF = torch.zeros(len(studies), TOKENS**2, len(FINDINGS))
    if located:
        w_NTF = torch.from_numpy(np.stack([locate(*pair) for pair in zip(studies, x_NSS, strict=True)]))
    y_NF = torch.tensor([[study.truth[name] for name in FINDINGS] for study in studies], dtype=torch.float32)
    a_NA = torch.tensor([attributes(study) for study in studies], dtype=torch.float32)
    return Films(torch.from_numpy(x_NSS), y_NF, a_NA, w_NTF)


def batches(films: Films, rng: np.random.Generator) -> Iterator[Films]:
    """Yield one epoch in random order; each batch is shifted by a few pixels and varied in exposure."""
    order = rng.permutation(len(films.x_NSS))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = torch.from_numpy(order[start : start + BATCH])
        shift = tuple(int(k) for k in rng.integers(-SHIFT, SHIFT + 1, 2))
        x_NSS = torch.roll(films.x_NSS[rows], shift, (1, 2)).float()
        gain = torch.from_numpy(rng.uniform(0.9, 1.1, (BATCH, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-12, 12, (BATCH, 1, 1)).astype(np.float32))
        yield Films((x_NSS * gain + offset).clamp(0, 255), films.y_NF[rows], films.a_NA[rows], films.w_NTF[rows])


def train(films: Films, epochs: int, start_from: Path | None = None) -> VitTower:
    """Train a tower, new or from `start_from`, by `epochs` epochs of AdamW with warm-up and a cosine."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tower = untrained(GEOMETRY)
    if start_from is not None:
        load_released(tower, start_from)
    heads = Heads(GEOMETRY.projection, tower.model.config.hidden_size)
    parameters = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(films.x_NSS) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.08)
    for epoch in range(epochs):
        start, losses = time.process_time(), []
        for batch in batches(films, rng):
            out = tower.model(normalise(batch.x_NSS))
            loss = heads.loss(tower.projection_head(out.pooler_output), out.last_hidden_state, batch)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {time.process_time() - start:.0f} s CPU", flush=True)
    return tower.eval()


def probe(e_ND: Tensor, y_N: Tensor, n_fit: int) -> float:
    """Return the AUROC of a logistic regression (L2 1e-3) fitted on the first `n_fit` images, tested on the others."""
    z_ND = (e_ND - e_ND[:n_fit].mean(0)) / (e_ND[:n_fit].std(0) + 1e-6)
    weight = torch.zeros(z_ND.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = z_ND[:n_fit] @ weight[1:] + weight[0]
        loss = functional.binary_cross_entropy_with_logits(logits, y_N[:n_fit]) + 1e-3 * weight[1:].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return auroc((z_ND[n_fit:] @ weight.detach()[1:]).numpy(), y_N[n_fit:].numpy()).auc


def report(tower: VitTower, films: Films) -> None:
    """Print probes of the trained tower and of the same tower with random weights, as a Markdown table."""
    start = time.process_time()
    e_ND = embed(tower, films.x_NSS)
    cost = (time.process_time() - start) / len(e_ND) * 1000
    torch.manual_seed(1)
    control_ND = embed(untrained(GEOMETRY).eval(), films.x_NSS)
    n_fit = len(e_ND) * 3 // 5
    print("| target | AUROC | random weights | positives |\n|---|---|---|---|")
    y = torch.cat([films.y_NF, films.a_NA], 1)
    for name, y_N in zip((*FINDINGS, *ATTRIBUTES), y.T, strict=True):
        print(f"| {name} | {probe(e_ND, y_N, n_fit):.3f} | {probe(control_ND, y_N, n_fit):.3f} | {int(y_N.sum())} |")
    print(f"{len(e_ND)} held-out images, {cost:.1f} ms CPU each")


def main() -> None:
    """Draw the films, train the encoder, write it and print its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=5000, help="patients to train on")
    parser.add_argument("--cohort", type=int, default=0, help="another number draws other patients; 1 is tested on")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--start-from", type=Path, help="a safetensors file of an earlier run to continue")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the safetensors file to write")
    args = parser.parse_args()
    if args.cohort == 1:
        parser.error("--cohort 1 is the patients that the encoder is tested on; take another")
    torch.set_num_threads(args.threads)
    start = time.process_time()
    films = draw(TRAINING_SEEDS[args.cohort], args.patients, located=True)
    print(f"{len(films.x_NSS)} films drawn, {time.process_time() - start:.0f} s CPU", flush=True)
    tower = train(films, args.epochs, args.start_from)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_vit(tower, GEOMETRY, args.out)
    print(f"{args.out.name}: {args.out.stat().st_size / 1e6:.2f} MB", flush=True)
    report(tower, draw(TRAINING_SEEDS[1], 1000))


if __name__ == "__main__":
    main()
