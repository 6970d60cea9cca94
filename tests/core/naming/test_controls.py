"""Which things are asked beside a name: enough, distinct, and none that the name's meaning decides."""

import numpy as np
import pytest

from medsae_ray.core.naming.controls import (
    CONTROLS,
    ControlRules,
    controls_of,
    fitting_labels,
    label_in,
    related_labels,
    stems,
)
from medsae_ray.core.naming.plan import Concept, normalised_name

LABELS = ("Edema", "Consolidation", "Lung Opacity", "Pneumonia", "Fracture", "No Finding", "Cardiomegaly")


def named(*names: str) -> dict[int, Concept]:
    return {feature: Concept(name) for feature, name in enumerate(names)}


def names_of(concepts: dict[int, Concept], rules: ControlRules) -> list[str]:
    return [c.name for c in controls_of(concepts, 0, rules)[0]]


@pytest.mark.parametrize(
    "names", [("Edema",), ("Consolidation", "Edema"), ("x", "y", "z", "u", "v"), ("lung", "chest")]
)
@pytest.mark.parametrize("labels", [(), LABELS])
def test_a_name_has_enough_distinct_controls_however_few_names_and_labels_there_are(names, labels) -> None:
    concepts, rules = named(*names, *names), ControlRules(0, 3, labels)
    controls, others = controls_of(concepts, 0, rules)
    said = [normalised_name(c.name) for c in controls]
    assert (
        len(said) == len(set(said)) == CONTROLS
        and normalised_name(names[0]) not in said
        and "chest radiograph" not in said
    )
    assert {c.name for c in controls[:others]} <= set(names) and others <= 3
    assert controls_of(dict(sorted(concepts.items(), reverse=True)), 0, rules) == (controls, others)


@pytest.mark.parametrize("name", ["Edema", "pulmonary edema", "mild interstitial edemas"])
def test_synonyms_and_what_the_list_has_beside_them_are_no_controls(name: str) -> None:
    said = names_of(named(name, "alveolar edema", "Edema"), ControlRules(0, 3, LABELS))
    assert not any("edem" in other.lower() for other in said)
    assert not {"vascular congestion", "Kerley B lines", "consolidation", "bat-wing opacities"} & set(said)


def test_labels_that_go_with_a_name_or_exclude_it_are_no_controls() -> None:
    rng = np.random.default_rng(0)
    edema, fracture = rng.random(400) < 0.3, rng.random(400) < 0.3
    opacity, unknown = edema | (rng.random(400) < 0.2), rng.random(400) < 0.2
    nothing = ~opacity & ~fracture
    y = np.stack([edema, opacity, nothing, fracture], 1).astype(float)
    y[unknown, 1] = np.nan
    labels = ("Edema", "Lung Opacity", "No Finding", "Fracture")
    related = related_labels(y, labels)
    assert related["Edema"] == {"Edema", "Lung Opacity", "No Finding"} and related["Fracture"] >= {"No Finding"}
    rules = ControlRules(0, 3, labels, related)
    for name in ("Edema", "pulmonary edema"):
        said = names_of(named(name, "Lung Opacity", "No Finding"), rules)
        assert "Fracture" in said and not {"Lung Opacity", "No Finding", "Edema"} & set(said)
    constant = related_labels(np.ones((5, 2)), ("a", "b"))
    assert constant == {"a": {"a"}, "b": {"b"}}


def test_features_share_labels_and_terms_so_that_an_image_is_asked_about_each_once() -> None:
    concepts, rules = named("pacemaker", "rib", "mass", "sternal wires", "gastric bubble"), ControlRules(5, 0, LABELS)
    asked = {c.name for feature in concepts for c in controls_of(concepts, feature, rules)[0]}
    assert len(asked) <= CONTROLS + 4


def test_a_label_is_in_a_name_that_says_it_with_more_words() -> None:
    assert label_in("left pleural effusions", ("Effusion", "Pleural Other", "Edema")) == ["Effusion"]
    assert label_in("Edema", LABELS) == ["Edema"] and label_in("PORTABLE marker", LABELS) == []
    assert stems("the left of") == {"the", "left", "of"}


CHEXPERT = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Pneumonia",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
)


@pytest.mark.parametrize("label", CHEXPERT)
def test_a_label_is_in_its_own_name_only_and_labels_that_begin_alike_are_controls_of_each_other(label: str) -> None:
    assert label_in(label, CHEXPERT) == [label]
    said = names_of(named(label, *CHEXPERT), ControlRules(0, 8, CHEXPERT))
    apart = {"Pneumonia": "Pneumothorax", "Cardiomegaly": "Enlarged Cardiomediastinum"}
    for one, other in (*apart.items(), *((b, a) for a, b in apart.items())):
        assert label != one or other in said
    if "Pleural" in label:
        assert not any("Pleural" in other for other in said)


@pytest.mark.parametrize("label", ["Cardiomegaly", "Edema"])
def test_another_word_of_the_same_beginning_is_no_control_of_a_label(label: str) -> None:
    assert label_in("cardiac enlargement", CHEXPERT) == ["Enlarged Cardiomediastinum", "Cardiomegaly"]
    said = names_of(named(label, "cardiac silhouette", "edematous"), ControlRules(0, 8, (*CHEXPERT, "Edema")))
    assert ("cardiac silhouette" in said) == (label == "Edema") and ("edematous" in said) == (label != "Edema")


def test_a_label_that_is_true_of_a_feature_is_no_control_of_its_name() -> None:
    """A marker that goes with devices: the feature follows the marker, and devices tell its images nearly as well."""
    active = np.repeat([1.0, 0.0], 50)
    devices, healthy = active.copy(), 1 - active
    devices[40:60], healthy[::4] = np.nan, 0
    y = np.stack([devices, healthy, np.tile([1.0, 0.0], 50), np.full(100, np.nan)], 1)
    fitting = fitting_labels(y, active, ("Support Devices", "No Finding", "Fracture", "Hernia"))
    assert fitting == {"Support Devices", "No Finding"}
    rules = ControlRules(0, 3, ("Support Devices", "No Finding", "Fracture", "Hernia"))
    concepts = named("PORTABLE marker", "Support Devices", "rib")
    said = {c.name for c in controls_of(concepts, 0, rules, fitting)[0]}
    assert {"rib", "Fracture", "Hernia"} <= said and not fitting & said and len(said) == CONTROLS
    assert "Support Devices" in {c.name for c in controls_of(concepts, 0, rules)[0]}
