"""The quality of this package's SAEs and other libraries' after the same training on the same rows.

    make bench-peers
    python benchmarks/sae_quality.py --data EMBEDDINGS.npy --json result.json
    python benchmarks/sae_quality.py --json result.json          # rows planted with known atoms

Writes {architecture: {library: {fvu, l0, dead, recovered}}}: fraction of variance unexplained and mean active features
on held-out rows, with inference activations; share of features that are active on no training row; share of the known
atoms with a cosine above 0.9 to some decoder row, null for --data. Any float [n, D] array will do. All libraries get
the same rows, centred and scaled to E||x||^2 = D by the training rows' own figures, and the same number of epochs. If a
penalty sets the sparsity (relu_l1, gated, jumprelu), the penalty is searched for, and FVU interpolated, until L0 is k;
the other two figures are those of the nearest trial.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sae_peers import ARCHITECTURES, LIBRARIES, Job, Trained, environment, planted, python, train
from torch import Tensor
from torch.nn import functional as F

MARK = "figures:"
PENALISED = ("relu_l1", "gated", "jumprelu")
SIMILAR = 0.9
ROWS = 2_048  # encoded at once


class Figures(NamedTuple):
    """Of one trained SAE."""

    fvu: float
    l0: float
    dead: float
    recovered: float | None
    fvu_at_k: float


class Rows(NamedTuple):
    """What is learned and asked, normalised."""

    train_ND: np.ndarray
    heldout_ND: np.ndarray
    atoms_AD: np.ndarray | None


def split(x_ND: np.ndarray, atoms_AD: np.ndarray | None, share: float, seed: int) -> Rows:
    """Held-out rows are chosen at random; mean and scale come from the others."""
    order = np.random.default_rng(seed).permutation(len(x_ND))
    cut = max(1, round(share * len(x_ND)))
    heldout_ND, train_ND = x_ND[order[:cut]].astype(np.float32), x_ND[order[cut:]].astype(np.float32)
    mean_D = train_ND.mean(0, dtype=np.float64).astype(np.float32)
    scale = math.sqrt(x_ND.shape[1] / np.square(train_ND - mean_D).sum(1, dtype=np.float64).mean())
    return Rows((train_ND - mean_D) * scale, (heldout_ND - mean_D) * scale, atoms_AD)


@torch.no_grad()
def figures(k: int, found: Trained, train_ND: Tensor, heldout_ND: Tensor, atoms_AD: Tensor | None) -> Figures:
    """The training mean is 0 by now."""
    z_NM = torch.cat([found.encode(part) for part in heldout_ND.split(ROWS)])
    error: float = sum(
        float((x - found.decode(z)).double().square().sum())
        for x, z in zip(heldout_ND.split(ROWS), z_NM.split(ROWS), strict=True)
    )
    fired_M = torch.stack([(found.encode(part) > 0).any(0) for part in train_ND.split(ROWS)]).any(0)
    recovered = None
    if atoms_AD is not None:
        cosine_AM = atoms_AD @ F.normalize(found.atoms, dim=1).T
        recovered = float((cosine_AM.amax(1) > SIMILAR).double().mean())
    return Figures(
        error / float(heldout_ND.double().square().sum()),
        float((z_NM > 0).sum(1).double().mean()),
        1 - float(fired_M.double().mean()),
        recovered,
        error_at(k, found, heldout_ND),
    )


@torch.no_grad()
def error_at(k: int, found: Trained, heldout_ND: Tensor) -> float:
    """FVU with the threshold, if it is one for all features, put where L0 is k on these very rows."""
    if found.threshold is not None:
        found.threshold.zero_()
        z_NM = torch.cat([found.encode(part) for part in heldout_ND.split(ROWS)])
        found.threshold.fill_(z_NM.flatten().topk(k * len(z_NM) + 1).values.min())
    errors = [float((x - found.decode(found.encode(x))).double().square().sum()) for x in heldout_ND.split(ROWS)]
    return sum(errors) / float(heldout_ND.double().square().sum())


def work(job: Job, folder: Path, threads: int) -> None:
    """A worker: one SAE."""
    torch.set_num_threads(threads)
    names = ("train", "heldout", "atoms")
    x, heldout, atoms = (
        torch.from_numpy(np.load(folder / f"{name}.npy")).to(job.device) if (folder / f"{name}.npy").exists() else None
        for name in names
    )
    assert x is not None
    assert heldout is not None
    print(MARK + json.dumps(figures(job.k, train(job, x, lambda: None), x, heldout, atoms)), flush=True)


def ask(job: Job, folder: Path, threads: int) -> Figures:
    """What a worker in the library's environment finds."""
    interpreter = python(job.library)
    assert interpreter is not None
    call = [
        interpreter,
        __file__,
        "--worker",
        json.dumps(asdict(job)),
        "--data",
        str(folder),
        "--threads",
        str(threads),
    ]
    done = subprocess.run(call, capture_output=True, text=True, env=environment(threads))
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise SystemExit(f"{job.library} {job.architecture} failed:\n{done.stderr[-3000:]}")
    return Figures(*json.loads(lines[-1].removeprefix(MARK)))


def search(job: Job, folder: Path, threads: int, trials: int) -> Figures:
    """The penalty at which L0 is k: between the nearest on both sides, or further out while there is but one side."""
    seen: dict[float, Figures] = {}
    penalty = job.penalty
    for _ in range(trials):
        seen[penalty] = ask(replace(job, penalty=penalty), folder, threads)
        print(f"  {job.library} penalty {penalty:.3g}: {seen[penalty]}", file=sys.stderr, flush=True)
        if abs(_distance(seen[penalty], job.k)) < 0.02:
            break
        penalty = _next(seen, job.k)
    return at(job.k, list(seen.values()))


def _next(seen: dict[float, Figures], k: int) -> float:
    weak = max((penalty for penalty, found in seen.items() if found.l0 > k), default=None)
    strong = min((penalty for penalty, found in seen.items() if found.l0 <= k), default=None)
    if weak is None or strong is None:
        return strong / 3 if strong else (weak or 1.0) * 3
    above, below = _distance(seen[weak], k), _distance(seen[strong], k)
    share = min(0.8, max(0.2, above / (above - below)))
    return math.exp((1 - share) * math.log(weak) + share * math.log(strong))


def at(k: int, seen: list[Figures]) -> Figures:
    """FVU at L0 = k, a line between the nearest trials on both sides; the nearest trial where there is but one side."""
    best = min(seen, key=lambda found: abs(_distance(found, k)))
    below = max((found for found in seen if found.l0 <= k), key=lambda found: found.l0, default=None)
    above = min((found for found in seen if found.l0 >= k), key=lambda found: found.l0, default=None)
    if below is None or above is None or below.l0 == above.l0:
        return best
    share = (k - below.l0) / (above.l0 - below.l0)
    fvu = below.fvu + share * (above.fvu - below.fvu)
    return best._replace(fvu=fvu, l0=float(k), fvu_at_k=fvu)


def _distance(found: Figures, k: int) -> float:
    return math.log(max(found.l0, 1e-3) / k)


def compare(chosen: argparse.Namespace, architecture: str, folder: Path, rows: int) -> dict[str, Figures]:
    """One architecture, by all libraries that have it and are there."""
    found = {}
    for library in (name for name in ARCHITECTURES[architecture] if name in chosen.libraries and python(name)):
        job = Job(
            library,
            architecture,
            chosen.m,
            chosen.k,
            min(chosen.batch, rows),
            chosen.epochs,
            init=chosen.init,
            lr=chosen.lr,
            seed=chosen.seed,
        )
        if architecture in PENALISED:
            found[library] = search(job, folder, chosen.threads, chosen.trials)
        else:
            found[library] = ask(job, folder, chosen.threads)
        print(architecture, library, found[library], flush=True)
    return found


def _rows(chosen: argparse.Namespace) -> Rows:
    x_ND, atoms_AD = (
        (np.load(chosen.data), None)
        if chosen.data
        else planted(chosen.n, chosen.d, chosen.atoms, chosen.k, chosen.seed)
    )
    if x_ND.ndim != 2 or not np.isfinite(x_ND).all():
        raise SystemExit(f"{chosen.data} has shape {x_ND.shape}; a finite [n, D] array is wanted")
    return split(x_ND, atoms_AD, chosen.heldout, chosen.seed)


def main() -> None:
    """Compare the libraries on each architecture and write the figures; with --worker, run one job of one library."""
    chosen = _arguments()
    if chosen.worker:
        work(Job(**json.loads(chosen.worker)), Path(chosen.data), chosen.threads)
        return
    rows = _rows(chosen)
    written: dict[str, dict[str, dict[str, float | None]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, matrix in zip(("train", "heldout", "atoms"), rows, strict=True):
            if matrix is not None:
                np.save(f"{folder}/{name}.npy", matrix)
        for architecture in chosen.architectures:
            found = compare(chosen, architecture, Path(folder), len(rows.train_ND))
            written[architecture] = {library: figures._asdict() for library, figures in found.items()}
            if chosen.json:
                # After each architecture, as a run can take long.
                Path(chosen.json).write_text(json.dumps(written, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a .npy file, float [n, D]; without it rows are planted")
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--n", type=int, default=40_000, help="planted rows")
    parser.add_argument("--d", type=int, default=256, help="their dimension")
    parser.add_argument("--atoms", type=int, default=512, help="planted atoms, of which a row has k on average")
    parser.add_argument("--m", type=int, default=1024, help="features")
    parser.add_argument("--k", type=int, default=8, help="active features")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--init", help="where ours starts: random, scaled or data; its default without")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of the rows")
    parser.add_argument("--trials", type=int, default=4, help="penalties that are tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
