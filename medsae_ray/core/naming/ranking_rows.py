"""From answers to the rows and figures of rankings: which requests follow from names, and what a reply is worth."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medsae_ray.core.artifacts.rankings import ArmFigures, RankFigures
from medsae_ray.core.naming.attempts import Reply
from medsae_ray.core.naming.distinct_images import SHOWN
from medsae_ray.core.naming.label_tasks import LabelTask
from medsae_ray.core.naming.plan import normalised_name
from medsae_ray.core.naming.ranking import (
    LETTERS,
    RIVALS,
    Arm,
    Task,
    parse_phrase,
    parse_ranking,
    rank_of,
    rivals,
    shuffled,
)
from medsae_ray.core.naming.ranking_asking import NO_FEATURE, Request
from medsae_ray.core.naming.ranking_scores import Judged, doubt, rank_figures, sight
from medsae_ray.errors import NamingError

Row = dict[str, Any]


class Subject(NamedTuple):
    """A feature with the images that it is named from, and those of other patients that its name is judged on."""

    feature: int
    named_from: list[str]
    values: list[float]
    """The activations on `named_from`."""
    judged_on: list[str]

    @property
    def lacks(self) -> str | None:
        """Return the reason why it can be neither named nor judged; None if it can."""
        few = min(len(self.named_from), len(self.judged_on)) < SHOWN
        counts = f"{len(self.named_from)} naming patients and {len(self.judged_on)} detection patients"
        return f"{counts} with an active image, {SHOWN} of each are needed" if few else None


class Given(NamedTuple):
    """The outcome of asking for a name, or for a ranking."""

    text: str | None
    """The name, or the letters of the ranking."""
    failed: bool = False
    reason: str | None = None


class Posed(NamedTuple):
    """A ranking to ask for."""

    task: Task
    rivals: list[int] | None
    """The features of the other names; None for labels."""


def named_by(reply: Reply) -> Given:
    """Read the name in a reply."""
    return _read(reply, parse_phrase)


def ranked_by(reply: Reply) -> Given:
    """Read the letters in a reply."""
    return _read(reply, parse_ranking)


def _read(reply: Reply, parse: Any) -> Given:
    if reply.text is None:
        return Given(None, True, reply.failed or "an image cannot be read")
    try:
        return Given(parse(reply.text))
    except NamingError as error:
        return Given(None, False, ("cut off: " if reply.finish == "length" else "") + str(error))


def naming_requests(subjects: Sequence[Subject], arms: Sequence[Arm]) -> list[Request]:
    """Ask for the name of each feature that can be judged, in each arm."""
    able = [subject for subject in subjects if subject.lacks is None]
    return [Request((arm, s.feature), s.feature, arm, s.named_from, s.values) for arm in arms for s in able]


def posed(name_of: Mapping[int, str], common: frozenset[int], seed: int) -> dict[int, Posed]:
    """Return the ranking of each named feature among rivals of `common` features; none where these are too few."""
    found = {}
    for feature, name in name_of.items():
        among = {other: said for other, said in name_of.items() if other in common or other == feature}
        if (others := rivals(among, feature, seed)) is not None:
            task = shuffled(name, [name_of[other] for other in others], feature, seed)
            found[feature] = Posed(task, others)
    return found


def ranking_requests(
    subjects: Sequence[Subject],
    posed_of: Mapping[Arm, Mapping[int, Posed]],
    tasks: Sequence[tuple[LabelTask, list[str]]],
) -> list[Request]:
    """Ask for the rank of each name, and of each label on its images, in each arm."""
    asked = [
        Request((arm, s.feature), s.feature, arm, s.judged_on, None, of[s.feature].task)
        for arm, of in posed_of.items()
        for s in subjects
        if s.feature in of
    ]
    return asked + [
        Request((arm, -1 - place), NO_FEATURE, arm, images, None, one.task)
        for arm in posed_of
        for place, (one, images) in enumerate(tasks)
    ]


def feature_rows(
    subjects: Sequence[Subject],
    arm: Arm,
    names: Mapping[int, Given],
    posed_of: Mapping[int, Posed],
    ranked: Mapping[int, Given],
    replies: Mapping[int, str | None],
) -> Iterator[Row]:
    """Yield the row of each feature in one arm; `replies` are the replies to the rankings as they came."""
    for subject in subjects:
        base: Row = {"feature": subject.feature, "arm": arm}
        base |= {"named_from": subject.named_from, "judged_on": subject.judged_on}
        if subject.lacks:
            yield base | {"status": "insufficient_support", "reason": subject.lacks}
            continue
        given = names[subject.feature]
        base["name"] = given.text
        if given.text is None:
            yield base | {"status": "failed" if given.failed else "unnamed", "reason": f"no name: {given.reason}"}
        elif subject.feature not in posed_of:
            yield base | {"status": "few_rivals", "reason": f"there are not {RIVALS} other names of common features"}
        else:
            yield base | _ranked(posed_of[subject.feature], ranked[subject.feature], replies[subject.feature])


def label_rows(
    tasks: Sequence[tuple[LabelTask, list[str]]],
    arm: Arm,
    ranked: Mapping[int, Given],
    replies: Mapping[int, str | None],
) -> Iterator[Row]:
    """Yield the row of each label's ranking in one arm."""
    for place, (one, images) in enumerate(tasks):
        base: Row = {"feature": None, "arm": arm, "name": one.label, "judged_on": images}
        yield base | _ranked(Posed(one.task, None), ranked[-1 - place], replies[-1 - place])


def _ranked(asked: Posed, given: Given, answer: str | None) -> Row:
    row: Row = {"rivals": asked.rivals, "names": list(asked.task.names), "letter": LETTERS[asked.task.truth]}
    row |= {"answer": answer, "reason": given.reason}
    if given.text is None:
        return row | {"status": "failed" if given.failed else "unparsed"}
    return row | {"status": "ranked", "ranking": given.text, "rank": rank_of(given.text, asked.task)}


def arm_figures(rows: Sequence[Row], arm: Arm) -> ArmFigures:
    """Return the figures of one arm's rows."""
    own = [row for row in rows if row["arm"] == arm and row["feature"] is not None]
    of_labels = [row for row in rows if row["arm"] == arm and row["feature"] is None]
    names, labels = (_figures(some) for some in (own, of_labels))
    statuses = [row["status"] for row in own]
    named = [row["name"] for row in own if row.get("name")]
    return ArmFigures(
        **names,
        named=len(named),
        distinct_names=len({normalised_name(name) for name in named}),
        unnamed=statuses.count("unnamed"),
        few_rivals=statuses.count("few_rivals"),
        insufficient_support=statuses.count("insufficient_support"),
        labels=labels,
        sight=sight(labels),
        doubt=doubt(names, labels),
    )


def _figures(rows: Sequence[Row]) -> RankFigures:
    asked = [row for row in rows if row["status"] in ("ranked", "unparsed")]
    judged = [Judged(LETTERS.index(row["letter"]) + 1, row.get("rank"), row.get("ranking")) for row in asked]
    return rank_figures(judged, sum(row["status"] == "failed" for row in rows))
