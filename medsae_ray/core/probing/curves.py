"""The probes of one target on all columns and on the n strongest, with their controls.

Three sets of patients, one image each, are kept apart:
    fit    every probe and every order of columns is fitted on them
    judge  they fix the penalty and the order: by log loss, which no probe was fitted to
    test   `measured` reads them, after all else is done
so the arguments of all other functions hold no test patient.

Legend: N images, K columns, S strengths, P ranked columns, D dimensions, F features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.auroc import Auroc, auroc
from medsae_ray.core.analysis.probes import FEWEST as TO_JUDGE
from medsae_ray.core.analysis.probes import Columns
from medsae_ray.core.analysis.values import Bools, Floats, Ints, UnitValues
from medsae_ray.core.probing.elastic_net import Linear, columns_of, judged, linear, path
from medsae_ray.core.probing.ranking import by_chance, by_path, rng_of

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""The C to choose from; the last is SAIL's, and that of a probe for which nothing can be chosen."""
FEWEST = 10
"""The patients with the target, and without it, that a fit and a test need."""
HEAD = 10
"""The strongest columns by which orders are compared."""
RANDOM = "random_weights"
"""The space, and the kind, of an encoder with random weights."""
SPACE_OF = {
    "features": "sae",
    "group": "sae",
    "random": "sae",
    "shuffled": "sae",
    "dimensions": "raw",
    "components": "components",
    RANDOM: RANDOM,
}
"""Kind of probe -> the columns it is on. `features`: in the target's own order; `group`: in SAIL's, one for the group;
`random`: features drawn by chance; `shuffled`: labels permuted, then all as for `features`; `dimensions` of the
encoder; `components`: its principal ones; `random_weights`: the dimensions of the encoder with random weights."""

Spaces = Mapping[str, UnitValues]
"""Space -> values x_NK of the same patients: "raw" dimensions, "sae" features, principal "components", and with them
perhaps those of "random_weights"."""


@dataclass(frozen=True)
class Rules:
    """How probes are fitted."""

    sizes: Sequence[int]
    """The numbers of columns n, ascending."""
    scaled: bool = True
    """True if columns are divided by their deviation; SAIL's are not."""
    strengths: Sequence[float] = STRENGTHS
    seed: int = 0

    @property
    def most(self) -> int:
        """The largest size."""
        return max(self.sizes, default=0)


@dataclass(frozen=True)
class Task:
    """One target: the values and labels of the patients of both sets that have a label."""

    name: str
    fit: Spaces
    y_fit: Floats
    judge: Spaces
    y_judge: Floats

    @classmethod
    def of(cls, name: str, fit: Spaces, y_fit: Floats, judge: Spaces, y_judge: Floats) -> "Task":
        """Leave out patients whose label is NaN."""
        known, other = ~np.isnan(y_fit), ~np.isnan(y_judge)
        return cls(name, _rows(fit, known), y_fit[known], _rows(judge, other), y_judge[other])

    def shuffled(self, seed: int) -> "Task":
        """Return the target with its labels permuted within each set."""
        rng = rng_of(seed, "labels", self.name)
        return Task(self.name, self.fit, rng.permutation(self.y_fit), self.judge, rng.permutation(self.y_judge))

    def lacks(self) -> str | None:
        """Return the reason not to fit it; None without one."""
        return too_few(self.y_fit, "training")


def _rows(spaces: Spaces, chosen: Bools) -> Spaces:
    """Return some rows; all of them are not copied."""
    return spaces if chosen.all() else {name: x_NK[np.flatnonzero(chosen)] for name, x_NK in spaces.items()}


class Ranked(NamedTuple):
    """The probe on all columns of a space, and the order of these."""

    order_P: Ints
    linear: Linear
    strength: float
    weight_K: Floats
    """The weights at the last strength, SAIL's, as the columns are scaled."""
    varies_K: Bools


class Fitted(NamedTuple):
    """A probe on some columns of a space."""

    kind: str
    columns_P: Ints | None
    """The columns, the strongest first; None for all."""
    linear: Linear
    strength: float
    """Its C."""
    patients: int


def too_few(y_N: Floats, which: str) -> str | None:
    """Return the reason why labels are too few of a class to fit or test a probe."""
    for value, said in ((1, "with"), (0, "without")):
        if (found := int(np.count_nonzero(y_N == value))) < FEWEST:
            return f"{found} {which} patients {said} it, {FEWEST} are needed"
    return None


def ranked(task: Task, space: str, rules: Rules) -> Ranked | None:
    """Fit the probe on all columns at each strength, and order them; None if no column varies.

    The strength is that of least log loss on the judging patients. The order is by |weight|, at the strength whose
    first `HEAD` columns make the probe of least log loss there.
    """
    columns = columns_of(task.fit[space], rules.scaled)
    varies_K = columns.scale_K > 0
    if not varies_K.any():
        return None
    weight_SK = path(columns, task.y_fit, rules.strengths)
    best = _least(task, space, columns, weight_SK)
    orders = [by_path(weight_SK[:, :-1], s, varies_K, max(rules.most, HEAD)) for s in range(len(rules.strengths))]
    order_P = orders[_best_order(task, space, orders, rules)][: rules.most]
    return Ranked(order_P, linear(columns, weight_SK[best]), rules.strengths[best], weight_SK[-1, :-1], varies_K)


def _best_order(task: Task, space: str, orders: Sequence[Ints], rules: Rules) -> int:
    if len(orders) == 1 or not _judges(task):
        return len(orders) - 1
    losses = []
    for order in orders:
        columns = columns_of(_dense(task.fit[space], order[:HEAD]), rules.scaled)
        weights = path(columns, task.y_fit, rules.strengths[-1:])
        losses.append(judged(columns, weights, _dense(task.judge[space], order[:HEAD]), task.y_judge)[0])
    return int(np.argmin(losses))


def _judges(task: Task) -> bool:
    return bool(min(np.count_nonzero(task.y_judge == value) for value in (0, 1)) >= TO_JUDGE)


def _least(task: Task, space: str, columns: Columns, weights_S: Floats, order_P: Ints | None = None) -> int:
    """Return the place of the fit of least log loss on the judging patients; the last if they lack a class."""
    if len(weights_S) == 1 or not _judges(task):
        return len(weights_S) - 1
    x_NK = task.judge[space] if order_P is None else _dense(task.judge[space], order_P)
    return int(np.argmin(judged(columns, weights_S, x_NK, task.y_judge)))


def _dense(x_NK: UnitValues, order_P: Ints) -> np.ndarray:
    chosen: np.ndarray = x_NK[:, order_P].toarray() if isinstance(x_NK, sparse.csr_array) else x_NK[:, order_P]
    return chosen


def curve(task: Task, kind: str, order_P: Ints, rules: Rules) -> Iterator[Fitted]:
    """Fit a probe on the first n columns of an order, for each size n that it has; the last size may be all of it."""
    space = SPACE_OF[kind]
    x_NP, judge_NP = (_dense(of[space], order_P) for of in (task.fit, task.judge))
    for n in dict.fromkeys(min(size, len(order_P)) for size in rules.sizes if len(order_P)):
        columns = columns_of(x_NP[:, :n], rules.scaled)
        weights_S = path(columns, task.y_fit, rules.strengths)
        part = Task(task.name, {}, task.y_fit, {space: judge_NP}, task.y_judge)
        best = _least(part, space, columns, weights_S, np.arange(n))
        yield Fitted(kind, order_P[:n], linear(columns, weights_S[best]), rules.strengths[best], len(task.y_fit))


def fitted(task: Task, found: Mapping[str, Ranked | None], group_P: Ints, rules: Rules) -> list[Fitted]:
    """Fit all probes of a target.

    `found` is what `rankings` returned, and `group_P` the order of features in the target's group.
    """
    probes, patients = list[Fitted](), len(task.y_fit)
    for kind in ("dimensions", "features", RANDOM):
        if whole := found.get(SPACE_OF[kind]):
            probes.append(Fitted(kind, None, whole.linear, whole.strength, patients))
            probes += curve(task, kind, whole.order_P, rules)
    if components := task.fit["components"].shape[1]:
        probes += curve(task, "components", np.arange(components)[: rules.most], rules)
    if features := found["sae"]:
        probes += curve(task, "group", group_P, rules)
        probes += curve(task, "random", by_chance(features.varies_K, rules.most, rules.seed, task.name), rules)
    if shuffled := found["shuffled"]:
        probes += curve(task.shuffled(rules.seed), "shuffled", shuffled.order_P, rules)
    return probes


def rankings(task: Task, rules: Rules) -> dict[str, Ranked | None]:
    """Rank the columns of a target: what `fitted` takes."""
    shuffled = task.shuffled(rules.seed)
    of = {space: ranked(task, space, rules) for space in ("sae", "raw", RANDOM) if space in task.fit}
    return of | {"shuffled": ranked(shuffled, "sae", rules)}


def measured(probes: Sequence[Fitted], test: Spaces, y_N: Floats, level: float) -> list[Auroc]:
    """Return the AUROC of each probe on the test patients: the last step, and the only one that reads them."""
    known = ~np.isnan(y_N)
    spaces = _rows(test, known)
    return [auroc(_scores(one, spaces[SPACE_OF[one.kind]]), y_N[known], level) for one in probes]


def _scores(one: Fitted, x_NK: UnitValues) -> Floats:
    return one.linear.scores(x_NK if one.columns_P is None else _dense(x_NK, one.columns_P))
