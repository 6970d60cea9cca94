"""Train the small vision-language model that ships with the package, on synthetic radiographs alone.

    python jobs/train_phantom_vlm.py --out medsae_ray/core/phantom/weights/vlm

Two stages. First the vision tower learns the findings of a film and their places, with heads that are then dropped.
Then the tower is frozen, its outputs are computed once for films that it was not trained on (on its training films it
is too confident), and the projector and the language model learn to answer, describe and name. The model is a toy for
trying the software: it has never seen a medical image and is of no use on one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration, SiglipVisionModel

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.phantom.cohort import TRAINING_SEEDS
from medsae_ray.core.phantom.vlm import exam, model, sight, tokenizer, tower
from medsae_ray.core.phantom.vlm.concepts import NAMES
from medsae_ray.core.phantom.vlm.films import Films, gather, keep
from medsae_ray.core.phantom.vlm.optimiser import Optimiser
from medsae_ray.core.phantom.vlm.teacher import Cards, Teacher, cards

TOWER_RATE, LANGUAGE_RATE = 2e-3, 3e-3
SEEN, FRESH, HELD = range(24), range(24, 40), range(2)
"""The chunks of patients for the tower, for the language model, and (of another seed) for the examination."""


def train_tower(films: Films, images: int, held: Films, out: Path) -> None:
    """Train stage 1 on `images` films in all, each shown several times, and save the tower at `out` on the way."""
    rng = np.random.default_rng(0)
    eyes, heads = tower.untrained(films.x_NSS[:300]), sight.Heads(model.WIDTH)
    optimiser = Optimiser(nn.ModuleList([eyes, heads]), TOWER_RATE)
    seen, losses, start = 0, [], time.time()
    while seen < images:
        for batch in sight.batches(films, rng):
            loss = heads.loss(eyes(tower.normalise(batch.x_NSS)).last_hidden_state, batch)
            optimiser.step(loss, min(seen / images, 1))
            losses.append(loss.item())
            seen += sight.BATCH
            if seen % (100 * sight.BATCH) == 0:
                torch.save(eyes.state_dict(), out)
                print(f"{seen} of {images} films: loss {np.mean(losses[-100:]):.4f}, {_times(start)}", flush=True)
    torch.save(eyes.state_dict(), out)
    _report_tower(eyes, heads, held)


def train_language(small: Gemma3ForConditionalGeneration, teacher: Teacher, steps: int, held: Cards, out: Path) -> None:
    """Train stage 2, and save the model at `out` on the way."""
    small.model.vision_tower.requires_grad_(False)
    optimiser = Optimiser(small, LANGUAGE_RATE)
    start = time.time()
    losses: list[float] = []
    for step in range(steps):
        loss = teacher.lesson(step, step / steps)
        optimiser.step(loss, step / steps)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"{step + 1} of {steps} lessons: loss {np.mean(losses[-50:]):.4f}, {_times(start)}", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            model.save(small, teacher.tokenizer, out)
            print({name: round(value, 3) for name, value in _detect(small, teacher, held).items()}, flush=True)


def report(small: Gemma3ForConditionalGeneration, teacher: Teacher, held: Cards) -> None:
    """Print the examination and its control, a model with random weights, as Markdown."""
    control = model.untrained(teacher.tokenizer, seed=1)
    columns = [_detect(small, teacher, held), _detect(small, teacher, held, True), _detect(control, teacher, held)]
    print("| concept | AUROC | with definition | random language model | positives |\n|---|---|---|---|---|")
    for k, name in enumerate(NAMES):
        print(f"| {name} | {' | '.join(f'{one[name]:.3f}' for one in columns)} | {int(held.y_NK[:, k].sum())} |")
    print(exam.naming(small, teacher.tokenizer, held, teacher.p_K))


def _detect(
    small: Gemma3ForConditionalGeneration, teacher: Teacher, held: Cards, defined: bool = False
) -> dict[str, float]:
    return exam.detection(small, teacher.tokenizer, held, defined)


@torch.inference_mode()
def _report_tower(eyes: SiglipVisionModel, heads: sight.Heads, held: Films) -> None:
    logits = [heads(eyes(tower.normalise(x)).last_hidden_state) for x in held.x_NSS.split(64)]
    pairs = zip(NAMES, torch.cat(logits).T.numpy(), held.y_NK.T.float().numpy(), strict=True)
    print({name: round(auroc(score, shown).auc, 3) for name, score, shown in pairs}, flush=True)


def _times(start: float) -> str:
    return f"{time.time() - start:.0f} s, {time.process_time():.0f} s CPU"


def _films(folder: Path, seed: int, chunks: range, located: bool) -> Films:
    return gather([keep(folder, seed, chunk, located) for chunk in chunks])


def main() -> None:
    """Train the tower and then the language model, write both and print their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=Path("runs/vlm-films"), help="a folder that keeps drawn films")
    parser.add_argument("--images", type=int, default=40_000, help="films to show the tower")
    parser.add_argument("--lessons", type=int, default=4000, help="lessons of the language model")
    parser.add_argument("--tower", type=Path, help="a tower of an earlier run: stage 2 alone")
    parser.add_argument("--start-from", type=Path, help="a folder of an earlier run whose language model to continue")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, default=model.path(), help="the folder to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    held = _films(args.films, TRAINING_SEEDS[1], HELD, located=False)
    words = tokenizer.build()
    small = model.untrained(words)
    if args.start_from is not None:
        small = Gemma3ForConditionalGeneration.from_pretrained(args.start_from, dtype=torch.float32)
    if args.tower is None:
        args.tower = args.films / "tower.pt"
        train_tower(_films(args.films, TRAINING_SEEDS[0], SEEN, located=True), args.images, held, args.tower)
    small.model.vision_tower.load_state_dict(torch.load(args.tower, weights_only=True))
    eyes = small.model.vision_tower.eval()
    teacher = Teacher(small, words, cards(eyes, _films(args.films, TRAINING_SEEDS[0], FRESH, located=False)))
    seen = cards(eyes, held)
    train_language(small, teacher, args.lessons, seen, args.out)
    report(small, teacher, seen)


if __name__ == "__main__":
    main()
