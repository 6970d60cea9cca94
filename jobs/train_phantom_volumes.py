"""Train the small encoder of slices that ships with the package, on synthetic CT and MRI scans alone.

    python jobs/train_phantom_volumes.py --out medsae_ray/core/phantom/weights/volumes.safetensors

The network is MedCLIP's vision transformer at a small geometry. Each target (an organ in the slice, its plane, the
modality, sex and age) has a fixed random direction, and the directions are orthogonal. The embedding of a slice learns
to be the sum of the directions of what holds for it. A head on the tokens, dropped afterwards, learns the organs'
places. At the end the projection is fitted once more, by ridge regression, to embeddings in which plane and modality
are long directions, and the organs of a region share most of theirs: a slice of the thorax is like another, whichever
organs it shows. So concepts are directions that no single dimension shows, as a sparse autoencoder supposes them to
be. Scans of the institutes that recipes hold out are not trained on. The encoder is a toy for trying the software: it
has never seen a medical image and is of no use on one.

Legend: N slices, S side, D embedding dimension, T tokens (a square grid), O organs, K targets.
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
from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.encoders.medclip import SwinGeometry, save_vit
from medsae_ray.core.encoders.networks import VitTower, load_released
from medsae_ray.core.images.decode import MAX_PIXELS, Preprocess
from medsae_ray.core.images.nifti import AXES, PLANES, Volume
from medsae_ray.core.phantom import TRAINING_SEEDS
from medsae_ray.core.phantom.tower import embed, normalise, untrained
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.disease import LUNGS
from medsae_ray.core.phantom.volumes.people import HELD_OUT, Person, person
from medsae_ray.core.phantom.volumes.scan import draw, nifti

GEOMETRY = SwinGeometry(
    image_size=96, patch_size=4, embed_dim=24, depths=(1, 2, 2), num_heads=(2, 4, 8), window_size=6, projection=128
)


def pair(organ: str) -> tuple[str, str]:
    """Return the two sides of an organ."""
    return f"{organ}_left", f"{organ}_right"


ABOUT = ("CT", "MR", "female", "age > 60")
TARGETS = (*ORGANS, *PLANES, *ABOUT)
LENGTHS = (*(1.0 for _ in ORGANS), *(4.0 for _ in PLANES), 4.0, 4.0, 1.0, 1.0)
"""The length of each target's direction while the network learns."""
OWN, SHARED, PLANE, MODALITY, PERSON, RIDGE = 0.3, 5.0, 3.0, 3.0, 0.3, 1e-3
"""The lengths at the end: an organ's own direction, a region that shows all of its organs, a plane, a modality, sex and
age. The ridge is in units of standardised outputs."""
REGIONS = (
    ("brain", "skull"),
    (*pair("clavicula"), *pair("humerus"), *pair("scapula"), "thyroid_gland", "trachea"),
    (*LUNGS, "heart", "sternum", "esophagus", "superior_vena_cava"),
    (
        *("liver", "spleen", "stomach", "gallbladder", "pancreas", "duodenum", "inferior_vena_cava"),
        *(*pair("adrenal_gland"), *pair("kidney"), "portal_vein_and_splenic_vein"),
    ),
    (
        *(*pair("hip"), *pair("femur"), *pair("gluteus_maximus"), *pair("iliac_artery")),
        *("sacrum", "urinary_bladder", "prostate"),
    ),
    ("small_bowel", "colon", *pair("iliopsoas")),
    (*pair("autochthon"), "spinal_cord", "aorta"),
)
"""The organs that share a direction: head, shoulders, thorax, upper abdomen, pelvis, belly, back."""
TOKENS = GEOMETRY.image_size // GEOMETRY.patch_size // 2 ** (len(GEOMETRY.depths) - 1)  # a side
FIRST_REGION = 100
"""The place in the basis of the first region's direction."""
BATCH, RATE, DECAY, SHIFT, PER_PLANE = 32, 2e-3, 0.03, 3, 8
SHIPPED = Path(__file__).parents[1] / "medsae_ray" / "core" / "phantom" / "weights" / "volumes.safetensors"


class Slices(NamedTuple):
    """Drawn slices: x_NSS uint8, y_NK float32 (0 or 1), w_NTO float16 (an organ's share of a token)."""

    x_NSS: Tensor
    y_NK: Tensor
    w_NTO: Tensor


def directions() -> Tensor:
    """Return an orthonormal basis of the embeddings' space: [D, D]."""
    rng = np.random.default_rng(0)
    basis_DD, _ = np.linalg.qr(rng.standard_normal((GEOMETRY.projection, GEOMETRY.projection)))
    return torch.from_numpy(basis_DD.astype(np.float32))


def learnt_code() -> Tensor:
    """Return each target's own direction, of the length while the network learns: [K, D]."""
    return directions()[: len(TARGETS)] * torch.tensor(LENGTHS)[:, None]


def final_code() -> Tensor:
    """Return what each target adds to an embedding at the end: [K, D]."""
    basis_DD = directions()
    lengths = (*(OWN for _ in ORGANS), *(PLANE for _ in PLANES), MODALITY, MODALITY, PERSON, PERSON)
    code_KD = basis_DD[: len(TARGETS)] * torch.tensor(lengths)[:, None]
    for region, organs in enumerate(REGIONS):
        for organ in organs:
            code_KD[ORGANS.index(organ)] += SHARED / len(organs) * basis_DD[FIRST_REGION + region]
    return code_KD


def squared(label_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return organs at the encoder's size [S, S], padded as the image is."""
    size = GEOMETRY.image_size
    height, width = label_HW.shape
    side = max(size, height, width)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = label_HW
    at = ((np.arange(size) + 0.5) * side / size).astype(int)
    label_SS: NDArray[np.uint8] = square[at[:, None], at]
    return label_SS


def places(label_SS: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return w_TO: the share of each token's pixels in each organ, times 4, at most 1."""
    cell = GEOMETRY.image_size // TOKENS
    token_SS = np.arange(GEOMETRY.image_size) // cell
    key_SS = (token_SS[:, None] * TOKENS + token_SS) * (len(ORGANS) + 1) + label_SS
    counts = np.bincount(key_SS.ravel(), minlength=TOKENS**2 * (len(ORGANS) + 1)).reshape(TOKENS**2, -1)
    share: NDArray[np.float16] = np.minimum(4 * counts[:, 1:] / cell**2, 1).astype(np.float16)
    return share


def slices_of(who: Person, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield x_SS, y_K and w_TO of some slices of each plane, among those that show an organ."""
    scan = draw(who)
    volume, labels = Volume(nifti(scan.volume, scan.affine)), Volume(nifti(scan.organ, scan.affine))
    window = "p1:99" if who.modality == "MR" else ":".join(map(str, ct_window(who.study.name)))
    about = [who.modality == "CT", who.modality == "MR", who.sex == "f", who.age > 60]
    preprocess = Preprocess(size=GEOMETRY.image_size)
    for plane in PLANES:
        shown = np.flatnonzero(labels.present()[plane])
        for index in rng.choice(shown, min(PER_PLANE, len(shown)), replace=False):
            label_HW = np.moveaxis(labels.voxels_XYZ, AXES[plane], 0)[index][::-1, ::-1].T
            there = np.isin(np.arange(1, len(ORGANS) + 1), label_HW)
            y_K = np.array([*there, *(plane == one for one in PLANES), *about], np.float32)
            x_SS = preprocess(volume.image(plane, int(index), window, MAX_PIXELS))
            yield x_SS, y_K, places(squared(label_HW))


def people(seed: int, scans: int, held_out: bool) -> list[Person]:
    """Return the first `scans` people of the institutes that recipes hold out, or of all others."""
    found: list[Person] = []
    number = 0
    while len(found) < scans:
        number += 1
        who = person(seed, number)
        if (who.institute.name in HELD_OUT) == held_out:
            found.append(who)
    return found


def drawn(chosen: list[Person]) -> Slices:
    """Draw slices of people's scans."""
    rng = np.random.default_rng(0)
    x, y, w = zip(*(one for who in chosen for one in slices_of(who, rng)), strict=True)
    return Slices(*(torch.from_numpy(np.stack(part)) for part in (x, y, w)))


def batches(slices: Slices, rng: np.random.Generator) -> Iterator[Slices]:
    """Yield one epoch in random order, shifted by a few pixels and varied in brightness and noise: another scanner."""
    order = rng.permutation(len(slices.x_NSS))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = torch.from_numpy(order[start : start + BATCH])
        shift = tuple(int(k) for k in rng.integers(-SHIFT, SHIFT + 1, 2))
        x_NSS = torch.roll(slices.x_NSS[rows], shift, (1, 2)).float()
        gain = torch.from_numpy(rng.uniform(0.85, 1.15, (BATCH, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-12, 12, (BATCH, 1, 1)).astype(np.float32))
        grain = torch.from_numpy(rng.uniform(0, 7, (BATCH, 1, 1)).astype(np.float32))
        x_NSS = (x_NSS * gain + offset + grain * torch.randn(x_NSS.shape)).clamp(0, 255)
        yield Slices(x_NSS, slices.y_NK[rows], slices.w_NTO[rows].float())


def train(slices: Slices, epochs: int, out: Path, start_from: Path | None = None) -> VitTower:
    """Train a tower, new or from `start_from`, by `epochs` epochs of AdamW with warm-up and a cosine; each is kept."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tower, code_KD = untrained(GEOMETRY), learnt_code()
    if start_from is not None:
        load_released(tower, start_from)
    spots = nn.Linear(tower.model.config.hidden_size, len(ORGANS))
    parameters = [*tower.parameters(), *spots.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(slices.x_NSS) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.08)
    for epoch in range(epochs):
        start, losses = time.process_time(), []
        for batch in batches(slices, rng):
            seen = tower.model(normalise(batch.x_NSS))
            error = (tower.projection_head(seen.pooler_output) - batch.y_NK @ code_KD).square().sum(1).mean()
            where = functional.binary_cross_entropy_with_logits(
                spots(seen.last_hidden_state), batch.w_NTO, pos_weight=torch.tensor(4.0)
            )
            optimiser.zero_grad()
            (error + 10 * where).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append((error.item(), where.item()))
        means = np.mean(losses, 0)
        print(
            f"epoch {epoch + 1}: error {means[0]:.3f}, places {means[1]:.4f}, {time.process_time() - start:.0f} s CPU",
            flush=True,
        )
        save_vit(tower, GEOMETRY, out)
    return tower.eval()


@torch.inference_mode()
def project(tower: VitTower, slices: Slices) -> None:
    """Fit the projection by ridge regression to embeddings of the final code, up to a constant."""
    p_NC = torch.cat([tower.model(normalise(part)).pooler_output for part in slices.x_NSS.split(64)]).double()
    wanted_ND = (slices.y_NK @ final_code()).double()
    spread_C = p_NC.std(0) + 1e-6
    z_NC = (p_NC - p_NC.mean(0)) / spread_C
    ridge_CC = RIDGE * len(z_NC) * torch.eye(z_NC.shape[1], dtype=z_NC.dtype)
    weight_CD = torch.linalg.solve(z_NC.T @ z_NC + ridge_CC, z_NC.T @ (wanted_ND - wanted_ND.mean(0)))
    tower.projection_head.weight.copy_((weight_CD / spread_C[:, None]).T)


def report(tower: VitTower, slices: Slices) -> None:
    """Print the AUROC of each target as read by the code's pseudo-inverse, and that of the best raw dimension."""
    start = time.process_time()
    e_ND = embed(tower, slices.x_NSS)
    cost = (time.process_time() - start) / len(e_ND) * 1000
    along_NK = (e_ND @ torch.linalg.pinv(final_code())).numpy()
    print("| target | AUROC by the code | best dimension | slices |\n|---|---|---|---|")
    areas = []
    for name, y_N, along_N in zip(TARGETS, slices.y_NK.T.numpy(), along_NK.T, strict=True):
        area = auroc(along_N, y_N).auc
        single = max(max(a, 1 - a) for a in (auroc(e_N, y_N).auc for e_N in e_ND.T.numpy()))
        areas.append(area)
        print(f"| {name} | {area:.3f} | {single:.3f} | {int(y_N.sum())} |")
    print(f"{len(e_ND)} slices of held-out institutes, mean AUROC {np.nanmean(areas):.3f}, {cost:.1f} ms CPU each")


def main() -> None:
    """Draw the scans, train the encoder, write it and print its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=450, help="scans to train on")
    parser.add_argument("--cohort", type=int, default=0, help="another number draws other patients; 1 is tested on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--start-from", type=Path, help="a safetensors file of an earlier run to continue")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the safetensors file to write")
    args = parser.parse_args()
    if args.cohort == 1:
        parser.error("--cohort 1 is the patients that the encoder is tested on; take another")
    torch.set_num_threads(args.threads)
    start = time.process_time()
    slices = drawn(people(TRAINING_SEEDS[args.cohort], args.scans, held_out=False))
    print(f"{len(slices.x_NSS)} slices drawn, {time.process_time() - start:.0f} s CPU", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tower = train(slices, args.epochs, args.out, args.start_from)
    project(tower, slices)
    save_vit(tower, GEOMETRY, args.out)
    print(f"{args.out.name}: {args.out.stat().st_size / 1e6:.2f} MB", flush=True)
    report(tower, drawn(people(TRAINING_SEEDS[1], 60, held_out=True)))


if __name__ == "__main__":
    main()
