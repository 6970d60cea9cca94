"""Train the small encoder of slices that ships with the package, on synthetic CT and MRI scans alone.

    git show 7fc3538:medsae_ray/core/phantom/weights/volumes.safetensors > earlier.safetensors
    python jobs/train_phantom_volumes.py --start-from earlier.safetensors --scans 600 --epochs 0

made the weights that ship. The network is MedCLIP's vision transformer at a small geometry. Each target (an organ in
the slice, its plane, the modality, sex and age) has a fixed random direction, and the directions are orthogonal. The
organs that are seen together, a station, share a further one, as long as the share of them that the slice shows. The
embedding of a slice learns to be the sum of the directions of what holds for it. A head on the tokens, dropped
afterwards, learns the organs' places. Then the last stage alone, which sees the whole slice, learns on: it costs a
tenth, as what the stages before it give is computed once. At the end the projection is fitted by ridge regression to
embeddings in which stations, planes and modality are long directions, and an organ keeps a short one. So concepts are
directions that no single dimension shows, as a sparse autoencoder supposes them to be, and organs seen together are one
concept. Scans of the institutes that recipes hold out are not trained on. The encoder is a toy for trying the software:
it has never seen a medical image and is of no use on one.

Legend: N slices, S side, D embedding dimension, T tokens (a square grid), C their width, O organs, K targets.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.encoders.medclip import SwinGeometry, save_vit
from medsae_ray.core.encoders.networks import VitTower, load_released
from medsae_ray.core.phantom import TRAINING_SEEDS
from medsae_ray.core.phantom.tower import embed, normalise, untrained
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.code import Lengths, code, stations
from medsae_ray.core.phantom.volumes.slices import SIZE, TARGETS, TOKENS, Slices, drawn, people

GEOMETRY = SwinGeometry(
    image_size=SIZE, patch_size=4, embed_dim=24, depths=(1, 2, 2), num_heads=(2, 4, 8), window_size=6, projection=128
)
LEARNT = Lengths(organ=0.5, station=5.0, plane=3.0, modality=4.0, person=0.3)
"""The lengths while the network learns."""
FINAL = Lengths(organ=0.2, station=7.0, plane=5.0, modality=5.0, person=0.2)
"""The lengths at the end."""
RIDGE = 1e-3
"""The ridge of the projection, in units of standardised outputs."""
BATCH, RATE, DECAY, SHIFT = 32, 2e-3, 0.03, 3
LATE_BATCH, LATE_RATE, GRAIN = 64, 1e-3, 0.05
"""How the last stage is trained alone: GRAIN is the noise on its input, in standard deviations."""
SHIPPED = Path(__file__).parents[1] / "medsae_ray" / "core" / "phantom" / "weights" / "volumes.safetensors"


def wanted_code(y_NK: Tensor, lengths: Lengths) -> Tensor:
    """Return the code [K, D] of the stations of these slices."""
    return code(stations(y_NK), lengths, GEOMETRY.projection)


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
    tower, code_KD = untrained(GEOMETRY), wanted_code(slices.y_NK, LEARNT)
    if start_from is not None:
        load_released(tower, start_from)
    spots = nn.Linear(tower.model.config.hidden_size, len(ORGANS))
    parameters = [*tower.parameters(), *spots.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = max(1, epochs * (len(slices.x_NSS) // BATCH))
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


def train_last_stage(tower: VitTower, h_NTC: Tensor, y_NK: Tensor, epochs: int) -> None:
    """Train only the last stage and the projection, on what the stages before it give."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    p_NC = pooled(tower, h_NTC)
    project(tower, p_NC, y_NK, LEARNT)
    wanted_ND = y_NK @ wanted_code(y_NK, LEARNT)
    wanted_ND -= (wanted_ND - tower.projection_head(p_NC).detach()).mean(0)  # the projection has no bias
    grain = GRAIN * float(h_NTC.float().std())
    parameters = [
        *last_stage(tower).parameters(),
        *tower.model.layernorm.parameters(),
        *tower.projection_head.parameters(),
    ]
    optimiser = torch.optim.AdamW(parameters, lr=LATE_RATE, weight_decay=DECAY)
    steps = epochs * (len(h_NTC) // LATE_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LATE_RATE, total_steps=steps, pct_start=0.15)
    for epoch in range(epochs):
        start, losses = time.process_time(), []
        for rows in torch.from_numpy(rng.permutation(len(h_NTC))).split(LATE_BATCH)[: steps // epochs]:
            seen_BTC = h_NTC[rows].float() + grain * torch.randn(LATE_BATCH, *h_NTC.shape[1:])
            error = (tower.projection_head(late(tower, seen_BTC)) - wanted_ND[rows]).square().sum(1).mean()
            optimiser.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(error.item())
        print(
            f"last stage, epoch {epoch + 1}: error {np.mean(losses):.3f}, {time.process_time() - start:.0f} s CPU",
            flush=True,
        )


def last_stage(tower: VitTower) -> nn.Module:
    """Return the blocks whose attention windows are the whole image."""
    stage: nn.Module = tower.model.encoder.layers[-1]
    return stage


@torch.inference_mode()
def before_last_stage(tower: VitTower, x_NSS: Tensor) -> Tensor:
    """Compute what the last stage gets: float16 [N, T, C]."""
    parts = []
    for part_NSS in x_NSS.split(64):
        h_NTC, (height, width) = tower.model.embeddings(normalise(part_NSS))
        for stage in tower.model.encoder.layers[:-1]:
            h_NTC = stage(h_NTC, (height, width))[0]
            height, width = height // 2, width // 2
        parts.append(h_NTC.half())
    return torch.cat(parts)


def late(tower: VitTower, h_NTC: Tensor) -> Tensor:
    """Compute the mean of the final tokens [N, C] from what the last stage gets."""
    p_NC: Tensor = tower.model.layernorm(last_stage(tower)(h_NTC, (TOKENS, TOKENS))[0]).mean(1)
    return p_NC


@torch.no_grad()
def pooled(tower: VitTower, h_NTC: Tensor) -> Tensor:
    """Compute the mean of the final tokens of many slices [N, C]."""
    return torch.cat([late(tower, part.float()) for part in h_NTC.split(256)])


@torch.no_grad()
def project(tower: VitTower, p_NC: Tensor, y_NK: Tensor, lengths: Lengths) -> None:
    """Fit the projection by ridge regression to embeddings of a code, up to a constant."""
    p_NC, wanted_ND = p_NC.double(), (y_NK @ wanted_code(y_NK, lengths)).double()
    spread_C = p_NC.std(0) + 1e-6
    z_NC = (p_NC - p_NC.mean(0)) / spread_C
    ridge_CC = RIDGE * len(z_NC) * torch.eye(z_NC.shape[1], dtype=z_NC.dtype)
    weight_CD = torch.linalg.solve(z_NC.T @ z_NC + ridge_CC, z_NC.T @ (wanted_ND - wanted_ND.mean(0)))
    tower.projection_head.weight.copy_((weight_CD / spread_C[:, None]).T)


def report(tower: VitTower, slices: Slices, code_KD: Tensor) -> None:
    """Print the AUROC of each target as read by the code's pseudo-inverse, and that of the best raw dimension."""
    start = time.process_time()
    e_ND = embed(tower, slices.x_NSS)
    cost = (time.process_time() - start) / len(e_ND) * 1000
    along_NK = (e_ND @ torch.linalg.pinv(code_KD)).numpy()
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
    parser.add_argument("--last-stage-epochs", type=int, default=3, help="epochs of the last stage alone, afterwards")
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
    h_NTC = before_last_stage(tower, slices.x_NSS)
    train_last_stage(tower, h_NTC, slices.y_NK, args.last_stage_epochs)
    project(tower, pooled(tower, h_NTC), slices.y_NK, FINAL)
    save_vit(tower, GEOMETRY, args.out)
    print(f"{args.out.name}: {args.out.stat().st_size / 1e6:.2f} MB", flush=True)
    report(tower, drawn(people(TRAINING_SEEDS[1], 60, held_out=True)), wanted_code(slices.y_NK, FINAL))


if __name__ == "__main__":
    main()
