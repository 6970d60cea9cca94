"""The quality of SAEs with other settings than the chosen ones, on tables of many kinds.

    python benchmarks/sae_tables.py --cache FOLDER ...
    python benchmarks/sae_defaults.py --cache FOLDER --json result.json [--tables NAME ...] [--seed 0] [--k 8]
    python benchmarks/sae_defaults.py --cache FOLDER --json result.json --chosen

Each table is split by patient into training (60 %), held-out (20 %) and test rows, as in a run. A grid of widths,
batches, steps and learning rates is tried at the same k, or with `--chosen` the settings that a recipe with k alone
gets. Figures: FVU and L0 on held-out rows; FVU with the threshold at which held-out L0 is k; L0 on training rows; share
of features active on no training row; mean over labels of the AUROC on test rows of the feature with the largest |r|,
chosen on training and held-out rows, and of a ridge probe on the code; seconds of one core. Finished fits are kept in
the file and not repeated.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sae_tables import CHOSEN, REPORTED, Rows, load
from scipy.stats import rankdata
from torch import Tensor

from medsae_ray.config import Sae
from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.defaults import choose, spread
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.training import Ending

MIDDLE = (128, 64, 600, 6e-3)
"""Width, batch, steps, peak rate."""
WIDTHS, BATCHES, STEPS, RATES = (32, 64, 128, 256, 16, 512), (256,), (1800,), (2e-3,)
FEWEST = 5
"""Of either class among the test rows, for a label's AUROC to count."""
RIDGE = 0.1


class Shares(NamedTuple):
    """Row numbers."""

    train: np.ndarray
    heldout: np.ndarray
    test: np.ndarray


def shares(rows: Rows, seed: int) -> Shares:
    """Share the rows out by patient: 60 % training, 20 % held-out, 20 % test."""
    people, who_N = np.unique(rows.patient_N, return_inverse=True)
    place_N = np.random.default_rng(seed).permutation(len(people))[who_N] / len(people)
    return Shares(
        *(np.flatnonzero(mask) for mask in (place_N < 0.6, (place_N >= 0.6) & (place_N < 0.8), place_N >= 0.8))
    )


def auroc(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """Compute the area under the ROC curve from ranks, ties counted as half."""
    ranks, positives = rankdata(x_N), int(y_N.sum())
    return float((ranks[y_N == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y_N) - positives)))


def asked(y_NL: np.ndarray, of: Shares) -> np.ndarray:
    """Labels with enough of both classes."""
    counts = [y_NL[part].sum(0) for part in (of.test, np.concatenate(of[:2]))]
    sizes = len(of.test), len(of.train) + len(of.heldout)
    fine = [(count >= FEWEST) & (size - count >= FEWEST) for count, size in zip(counts, sizes, strict=True)]
    return np.flatnonzero(fine[0] & fine[1])


def best_feature(z_NM: np.ndarray, y_NL: np.ndarray, of: Shares) -> float:
    """Mean over labels of max(AUROC, 1 - AUROC)'s value for the sign that discovery rows chose."""
    known, found = np.concatenate(of[:2]), []
    z_nM = z_NM[known] - z_NM[known].mean(0)
    spread_M = np.linalg.norm(z_nM, axis=0)
    for label in asked(y_NL, of):
        y_n = y_NL[known, label] - y_NL[known, label].mean()
        r_M = y_n @ z_nM / np.where(spread_M > 0, spread_M * np.linalg.norm(y_n), np.inf)
        best = int(np.abs(r_M).argmax())
        found.append(auroc(np.sign(r_M[best]) * z_NM[of.test, best], y_NL[of.test, label]))
    return float(np.mean(found)) if found else float("nan")


def probe(z_NM: np.ndarray, y_NL: np.ndarray, of: Shares) -> float:
    """Mean AUROC over labels of ridge regression on standardised columns, in whichever of its two forms is smaller."""
    known = np.concatenate(of[:2])
    spread_M = z_NM[known].std(0)
    z_NM = ((z_NM - z_NM[known].mean(0)) / np.where(spread_M > 0, spread_M, 1)).astype(np.float64)
    z_nM, labels = z_NM[known], asked(y_NL, of)
    y_nL = y_NL[known][:, labels] - y_NL[known][:, labels].mean(0)
    n, width = z_nM.shape
    ridge = RIDGE * n
    if n < width:
        weights_ML = z_nM.T @ np.linalg.solve(z_nM @ z_nM.T + ridge * np.eye(n), y_nL)
    else:
        weights_ML = np.linalg.solve(z_nM.T @ z_nM + ridge * np.eye(width), z_nM.T @ y_nL)
    score_NL = z_NM[of.test] @ weights_ML
    found = [auroc(score_NL[:, i], y_NL[of.test, label]) for i, label in enumerate(labels)]
    return float(np.mean(found)) if found else float("nan")


@torch.no_grad()
def at_equal_k(sae: SAE, x_ND: Tensor, k: int) -> float:
    """FVU on rows with the threshold put where these very rows have k active features."""
    assert isinstance(sae, BatchTopK)
    kept = sae.threshold.clone()
    sae.threshold.zero_()
    z_NM = sae.encode(x_ND)
    sae.threshold.copy_(z_NM.flatten().topk(min(k * len(z_NM) + 1, z_NM.numel())).values.min())
    fvu = reconstruction(sae, x_ND).fvu
    sae.threshold.copy_(kept)
    return fvu


def figures(rows: Rows, of: Shares, settings: dict[str, Any]) -> dict[str, Any]:
    """Train and measure."""
    x_ND = torch.from_numpy(rows.x_ND)
    usual = Sae().model_dump(include={"normalisation", "whiten", "init", "precision", "seed"})
    config = SAEConfig.from_dict({**usual, "architecture": "batch_topk", "d_in": x_ND.shape[1], **settings})
    endings: list[Ending] = []
    started = time.process_time()
    sae = fit(config, x_ND[of.train], x_ND[of.heldout], on_end=endings.append)
    seconds = time.process_time() - started
    assert config.k is not None
    with torch.no_grad():
        z_NM = torch.cat([sae.encode(part) for part in x_ND.split(2048)]).numpy()
    return {
        "fvu": endings[0].fvu,
        "fvu_at_k": at_equal_k(sae, x_ND[of.heldout], config.k),
        "l0": endings[0].l0,
        "train_l0": endings[0].train_l0,
        "dead": float((z_NM[of.train] > 0).any(0).mean() * -1 + 1),
        "feature": best_feature(z_NM, rows.y_NL, of),
        "probe": probe(z_NM, rows.y_NL, of),
        "seconds": seconds,
    }


def grid(rows: int, k: int) -> list[dict[str, Any]]:
    """Settings with which a table of so many training rows is tried: every width, and about the middle one every batch,
    number of steps and rate."""
    width, batch, steps, lr = MIDDLE
    tried = [(w, batch, steps, lr) for w in WIDTHS]
    tried += [(width, b, steps, lr) for b in BATCHES] + [(width, batch, s, lr) for s in STEPS]
    tried += [(width, batch, steps, rate) for rate in RATES]
    found = []
    for width, batch, steps, lr in tried:
        batch = min(batch, rows)
        epochs = max(1, round(steps / (rows // batch)))
        found.append({"width": max(width, k), "k": k, "batch_size": batch, "epochs": epochs, "lr": lr})
    return list({json.dumps(settings): settings for settings in found}.values())


def chosen(x_ND: np.ndarray, k: int) -> dict[str, Any]:
    """What a recipe that gives k alone gets."""
    return choose(dict.fromkeys(("width", "batch_size", "epochs", "lr")) | {"k": k}, len(x_ND), spread(x_ND))


def show(done: list[dict[str, Any]]) -> None:
    """A line for each table: the best of the grid by FVU at equal k, and the chosen settings."""
    for name in dict.fromkeys(entry["table"] for entry in done):
        mine = [entry for entry in done if entry["table"] == name]
        grid_of = [entry for entry in mine if not entry["chosen"]]
        best = min(grid_of, key=lambda entry: entry["figures"]["fvu_at_k"], default=None)
        print(name, len(grid_of), *(line(e) for e in (best, *(e for e in mine if e["chosen"])) if e), sep=" | ")


def line(entry: dict[str, Any]) -> str:
    """Format an entry as a row of the table."""
    said, found = entry["settings"], entry["figures"]
    settings = ", ".join(f"{said[name]:g}" for name in ("width", "batch_size", "epochs", "lr"))
    names = ("fvu", "fvu_at_k", "l0", "dead", "feature", "probe", "seconds")
    return " | ".join([settings, *(f"{found[name]:.{2 if name in ('l0', 'dead') else 4}f}" for name in names)])


def main() -> None:
    """Fit every setting on every table that the file does not have yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--tables", nargs="*", default=[*CHOSEN, *REPORTED])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, nargs="*", default=[8])
    parser.add_argument("--chosen", action="store_true", help="the chosen settings instead of the grid")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(given.json.read_text()) if given.json.exists() else []
    known = {json.dumps([entry["table"], entry["settings"]], sort_keys=True) for entry in done}
    for name in given.tables:
        rows = load(given.cache, name)
        of = shares(rows, given.seed)
        for k in given.k:
            tried = [chosen(rows.x_ND[of.train], k)] if given.chosen else grid(len(of.train), k)
            for settings in tried:
                settings = settings | {"seed": given.seed}
                key = json.dumps([name, settings], sort_keys=True)
                if key in known:
                    continue
                known.add(key)
                found = figures(rows, of, settings)
                done.append({"table": name, "chosen": given.chosen, "settings": settings, "figures": found})
                print(name, settings, {key: round(value, 4) for key, value in found.items()}, flush=True)
                given.json.write_text(json.dumps(done))
    show(done)


if __name__ == "__main__":
    main()
