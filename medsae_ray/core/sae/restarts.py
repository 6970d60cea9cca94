"""Training from several seeds, of which the SAE of least held-out FVU is kept.

On a small table the result of training depends on its start: of four seeds one may explain a tenth less than another.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.training import Ending, EpochLog, State
from medsae_ray.core.sae.training_table import EmbeddingTable

Report = Callable[[EpochLog, Callable[[], dict[str, Any]]], None]


class Kept(NamedTuple):
    """The best of the trainings so far; plain values, so that a checkpoint can hold them."""

    weights: bytes
    config: bytes
    log: list[dict[str, float]]
    ending: dict[str, float | None]
    """The fields of `Ending`."""


class Restarts(NamedTuple):
    """The trainings of one SAE: from `config.seed`, the next seed, and so on."""

    config: SAEConfig
    starts: int
    store: Callable[[SAE, SAEConfig], tuple[bytes, bytes]]
    """A finished SAE -> its files, weights and settings."""

    def fit(self, train: Any, heldout: Any, resume: dict[str, Any] | None, report: Report, **fit_with: Any) -> Kept:
        """Train all and return the best; the first of equal ones.

        `report` is called after every epoch with its log, whose epoch counts through all trainings, and a function that
        returns the state; `resume` takes such a state. All else is passed on to `fit`.
        """
        tables = EmbeddingTable.of(train), EmbeddingTable.of(heldout)
        if self.starts > 1:
            fit_with = {"normalisation": self._normalisation(tables[0])} | fit_with
        kept = Kept(**resume["kept"]) if resume and resume.get("kept") else None
        for start in range(resume.get("start", 0) if resume else 0, self.starts):
            ended = self._one(start, tables, kept, resume, report, fit_with)
            if kept is None or _fvu(ended) < _fvu(kept):
                kept = ended
            resume = None
        assert kept is not None, "there is at least one start"
        return kept

    def _normalisation(self, train: EmbeddingTable) -> Normalisation:
        """Fit the normalisation that all trainings share: it depends on the rows alone."""
        return Normalisation.fit(train.x_ND, self.config.whiten, self.config.normalisation)

    def _one(
        self,
        start: int,
        tables: tuple[EmbeddingTable, EmbeddingTable],
        kept: Kept | None,
        resume: dict[str, Any] | None,
        report: Report,
        fit_with: dict[str, Any],
    ) -> Kept:
        config = replace(self.config, seed=self.config.seed + start)
        log: list[dict[str, float]] = list(resume["log"]) if resume else []

        def on_epoch(entry: EpochLog, state: Callable[[], State]) -> None:
            log.append(entry._asdict())
            place = {"start": start, "kept": kept and kept._asdict(), "log": list(log)}
            report(entry._replace(epoch=start * config.epochs + entry.epoch), lambda: {"fit": state(), **place})

        ended: list[Ending] = []
        fit_state = resume["fit"] if resume else None
        sae = fit(config, *tables, resume=fit_state, on_epoch=on_epoch, on_end=ended.append, **fit_with)
        return Kept(*self.store(sae, config), log, ended[0]._asdict())


def _fvu(one: Kept) -> float:
    fvu = one.ending["fvu"]
    assert fvu is not None
    return fvu
