import json

from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.naming.plan import (
    TRIVIAL,
    Addresses,
    Concept,
    Need,
    Plan,
    address,
    content_address,
    random_names,
    reply_address,
)

CONCEPTS = [Concept("edema", "white lungs"), Concept("edema"), Concept("edema", ""), Concept("é"), TRIVIAL]
IMAGES = [f"i{n}" for n in range(6)]
SHA = {image: f"sha{image}" for image in IMAGES[:5]} | {"i4": "shai0"}
"""i4 has the same bytes as i0; i5 cannot be read."""
ADDRESSES = Addresses("model@1", "abc", SHA)


def test_an_address_depends_on_every_part_and_on_nothing_else() -> None:
    parts = ["edema", "white lungs", "00ff", "model@1", "abc"]
    found = {address(*[p + "x" if i == j else p for j, p in enumerate(parts)]) for i in range(6)}
    found |= {address("edema", None, *parts[2:]), address("edema", "", *parts[2:])}
    found |= {address("edemawhite", " lungs", *parts[2:]), reply_address(["a"], ["b"], "m", "p", 0)}
    found |= {reply_address(["a", "b"], [], "m", "p", 0), reply_address(["a"], ["b"], "m", "p", 1)}
    assert len(found) == 12 and all(len(a) == 32 and int(a, 16) >= 0 for a in found)
    assert address(*parts) == address(*json.loads(json.dumps(parts)))
    assert address(*parts) == "596f3a3f7ede424b11992f62b70e246f"
    assert content_address([1, 2]) == content_address((1, 2))


needs = st.lists(st.builds(Need, st.sampled_from(CONCEPTS), st.lists(st.sampled_from(IMAGES), max_size=8)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(needs=needs, answered=st.sets(st.integers(0, 40), max_size=20), shuffle=st.randoms())
def test_a_plan_asks_each_open_question_once_image_by_image(needs: list[Need], answered: set, shuffle) -> None:
    wanted = {ADDRESSES.of(n.concept, i) for n in needs for i in n.image_ids} - {None}
    done = {a for n, a in enumerate(sorted(wanted)) if n in answered}
    plan = Plan.of(needs, ADDRESSES, done)
    asked = [(work.image_id, c, a) for work in plan for c, a in zip(work.concepts, work.addresses, strict=True)]
    assert sorted(a for _, _, a in asked) == sorted(wanted - done)
    assert all(ADDRESSES.of(concept, image) == a for image, concept, a in asked)
    images = [work.image_id for work in plan]
    assert images == sorted(set(images))
    assert (len(plan), plan.needed) == (len(asked), len(wanted))
    assert plan.unreadable == any("i5" in n.image_ids for n in needs)
    shuffle.shuffle(needs)
    assert list(Plan.of(needs, ADDRESSES, done)) == list(plan)


def test_random_names_are_distinct_names_of_other_features() -> None:
    concepts = {f: Concept(name) for f, name in enumerate(["Edema", "edema.", "pacemaker", "rib", "mass", "rotated"])}
    concepts[9] = Concept("Chest Radiograph")
    for feature in concepts:
        names = [c.name for c in random_names(concepts, feature, seed=3)]
        own = concepts[feature].name.lower().strip(".")
        folded = {n.lower().strip(".") for n in names}
        assert len(names) == len(folded) == 3 and own not in folded and "chest radiograph" not in folded
    assert len({tuple(random_names(concepts, 2, seed)) for seed in range(20)}) > 3
    reordered = dict(sorted(concepts.items(), reverse=True))
    assert random_names(reordered, 2, 3) == random_names(concepts, 2, 3)


def test_fewer_random_names_come_back_where_there_are_not_enough() -> None:
    assert random_names({0: Concept("a"), 1: Concept("A"), 2: Concept("b")}, 0, 0) == [Concept("b")]
