"""Made-up names for the sample report: a model that sees some labels, scored by the protocol's own functions."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming import verdict
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.label_names import atlas
from medsae_ray.core.naming.metadata import BestColumn
from medsae_ray.core.naming.scores import LabelScore, control, score
from medsae_ray.core.naming.verdict import Trial, Untested
from medsae_ray.core.report.data import Answers, NameCounts, NamingReport, ReportData
from tests.core.report.sample import LABELS, full

ROLES = [*(f"bin{b}" for b in range(5) for _ in range(5)), *["equal"] * 10, *["hard"] * 8, *["matched"] * 7]
TEXTS = [
    ("Blunted costophrenic angle", "Fluid level that fills the lateral recess of a lung.", "finding", "lower lung"),
    ("Pacemaker and its leads", "A metal box below the clavicle with leads to the heart.", "device", "upper chest"),
    ("Dense round nodule", "A sharply bounded round opacity inside a lung field.", "finding", "lung field"),
    ("Portable marker in the corner", "A burned-in bright marker in an upper corner.", "marker", "corner"),
]


def reply(feature: int, say: Callable[[str], str] = str) -> str:
    """A reply under the schema, every text of it through `say`."""
    name, definition, category, _ = TEXTS[feature % 4]
    words = {
        "per_image": [say(f"{name.lower()}, image {i + 1}") for i in range(8)],
        "shared_in_a": [say(name), say("same place in most images")],
        "absent_in_b": [say(f"no {name.lower()}")],
    }
    return json.dumps(words | {"category": category, "name": say(name), "definition": say(definition)})


def name_row(feature: int, source: str, status: str, labels: list[str]) -> dict[str, object]:
    name, definition, category, location = TEXTS[feature % 4]
    row = {"feature": feature, "source": source, "status": status, "alternatives": [], "attempts": 0}
    if source == "label":
        return row | {"name": labels[feature % len(labels)] if status == "named" else None, "evidence": "r = 0.412"}
    why = {"failed": "cut off: the reply is not JSON; the last answer: {", "insufficient_support": "3 patients"}
    row |= {"evidence": why.get(status, reply(feature)), "attempts": 2}
    if status != "named":
        return row | {"name": None}
    said = {"definition": definition, "category": category, "location": location, "laterality": "right"}
    said |= {"confidence": "high", "fraction_of_a": 0.75, "alternatives": ["an opacity"]}
    choice = "the best of the model's 2 names (AUROC 0.91 on 50 images); it first said 'haze'" if feature == 0 else None
    return row | said | {"name": name, "choice": choice}


def answered(skill: float, rng: np.random.Generator, failed: int = 0) -> Answers:
    """Answers that follow the activation by `skill` standard deviations."""
    y = [int(role.startswith("bin")) for role in ROLES]
    p = 1 / (1 + np.exp(-rng.normal(skill * (np.array(y) - 0.5), 1)))
    p[rng.permutation(len(p))[:failed]] = math.nan
    return Answers(p.tolist(), y, ROLES)


def trial(feature: int, name: str, labels: list[str], answers: Answers, rng: np.random.Generator) -> Trial:
    nulls = tuple(control(rng.random(len(ROLES)), answers.y) for _ in range(3))
    trivial, metadata = control(rng.random(len(ROLES)), answers.y), BestColumn("portable_marker = 1", 0.93, True)
    ceiling = 0.912 if feature % 2 else None
    label = LabelScore(labels[feature % len(labels)], 0.74)
    kept = [i for i, role in enumerate(ROLES) if role.startswith("bin") or role == "hard"]
    hard = score([answers.p_yes[i] for i in kept], [answers.y[i] for i in kept]).area.auc
    said = score(answers.p_yes, answers.y)
    return Trial(feature, name, said, nulls, trivial, 0.07, ceiling, label, metadata, hard, (0.5, 0.52))


def status_of(feature: int) -> str:
    return {5: "abstained", 7: "failed", 8: "insufficient_support"}.get(feature % 9, "named")


def naming(
    features: list[int],
    labels: list[str] = LABELS,
    status: Callable[[int], str] = status_of,
    failed: Callable[[int], int] = lambda feature: 0,
    sight: float = 2.0,
    seed: int = 0,
) -> NamingReport:
    """Names of both sources. `failed`: questions without an answer; `sight`: how well the model sees the labels."""
    rng = np.random.default_rng(seed)
    names, tables, counts, answers = [], [], {}, {}
    for source in ("vlm", "label"):
        rows = [name_row(f, source, status(f) if source == "vlm" else "named", labels) for f in features]
        of = {row["feature"]: answered(3 - row["feature"] % 4, rng, failed(row["feature"])) for row in rows}
        trials = [trial(r["feature"], r["name"], labels, of[r["feature"]], rng) for r in rows if r["name"]]
        left = [Untested(row["feature"], row["status"]) for row in rows if not row["name"]]
        tables.append(verdict.scores_table(source, trials, left))
        counts[source] = name_counts(tables[-1], trials)
        answers |= {t.feature: of[t.feature] for t in trials} if source == "vlm" else {}
        names += rows
    rounds = [answered(sight * (i % 3) / 2, rng) for i in range(len(labels))]
    areas = [score(a.p_yes, a.y).area for a in rounds]
    return NamingReport(
        model="phantom-vlm-c202421fa354",
        names=pa.Table.from_pylist(names, schema=schema.names()),
        scores=pa.concat_tables(tables),
        counts=counts,
        ceilings=dict(zip(labels, areas, strict=True)),
        seen=frozenset(label for label, area in zip(labels, areas, strict=True) if area.low > 0.5),
        answers=answers,
        usage=Usage(12_480, 1_310_000, 1_048_000, 13_900, 214.5),
        overlap={"makespan_s": 210.4, "sum_s": 301.9},
    )


def name_counts(scores: pa.Table, trials: list[Trial]) -> NameCounts:
    found, chance = scores["verdict"].to_pylist(), verdict.chance_namer(trials)
    kinds = {kind: found.count(kind) for kind in verdict.VERDICTS}
    paper = verdict.paper_count([t.score for t in trials])
    kinds["tested"] = kinds["verified"] + kinds["rejected"]
    return NameCounts(len(trials), **kinds, expected_by_chance=chance.expected_verified,
                      random_name_auroc=chance.mean_auroc,
                      random_name_auroc_hard=chance.mean_auroc_hard, paper=paper)  # fmt: skip


def with_names(data: ReportData, report: NamingReport) -> ReportData:
    """`data` as a naming run would have it: its atlas holds the strongest name of each feature."""
    features = data.atlas.select(schema.features(len(data.labels)).names)
    return replace(data, atlas=atlas(features, report.names, report.scores), naming=report)


def full_naming(labels: list[str] = LABELS, features: int = 160, **options: object) -> ReportData:
    data = full(labels, features)
    return with_names(data, naming(list(range(features)), labels, **options))


def blind(labels: list[str]) -> dict[str, Auroc]:
    """Ceilings of a model that sees nothing."""
    return {label: Auroc(0.49, 0.38, 0.6, 30, 170) for label in labels}


def unknown(say: str) -> ReportData:
    """Names and scores with `say` in every free text and null or NaN for every number; no answer to any question."""
    names = [name_row(f, s, "named", ["a"]) | {"attempts": 0} for f in (0, 1, 2) for s in ("vlm", "label")]
    for row in names:
        row |= dict.fromkeys(("name", "definition", "category", "location", "laterality", "confidence"), say)
        row |= {"alternatives": [say], "evidence": json.dumps({"per_image": [say], "shared_in_a": [say]})}
    names[2]["evidence"] = names[4]["evidence"] = say
    verdicts = {0: "rejected", 1: "failed", 2: say}
    scores = [
        {"feature": row["feature"], "source": row["source"], "verdict": verdicts[row["feature"]], "name": say,
         "n_pos": 0, "n_neg": 0, "failed": 0, "low_mass": 3, "best_label": say, "best_metadata": say,
         "shortcut_suspected": True}
        for row in names
    ]  # fmt: skip
    nothing = NameCounts(3, 3, 0, 3, 0, 0, 0, *[math.nan] * 3, verdict.PaperCount(0, 3, 0, 0, math.nan))
    report = NamingReport(
        model=say,
        names=pa.Table.from_pylist(names, schema=schema.names()),
        scores=pa.Table.from_pylist(scores, schema=verdict.scores()),
        counts={"vlm": nothing, say: nothing},
        ceilings={"a": Auroc(math.nan, math.nan, math.nan, 0, 0)},
        answers={0: Answers([math.nan] * 3, [1, 0, 0], ["bin0", "equal", say])},
        usage=Usage(),
        overlap={"makespan_s": math.nan, "sum_s": math.nan},
    )
    return with_names(full(["a", say], 3), report)


def without_rows() -> NamingReport:
    """A naming run in which no feature was alive."""
    nothing = NameCounts(*[0] * 7, expected_by_chance=math.nan, random_name_auroc=math.nan,
                         random_name_auroc_hard=math.nan,
                         paper=verdict.PaperCount(0, 0, 0, 0, 0.0))  # fmt: skip
    tables = schema.names().empty_table(), verdict.scores().empty_table()
    return NamingReport("m", *tables, {"vlm": nothing, "label": nothing}, {}, {}, Usage(), None)
