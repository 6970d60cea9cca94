"""Placing bundles on nodes, against every way there is."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.cluster.packing import NO_GROWTH, Bundle, Growth, Kind, Node, Placed, Unit, place, spelt


def unit(*bundles: dict[str, float]) -> Unit:
    return Unit(tuple(Bundle.of(bundle) for bundle in bundles))


def nodes(*amounts: dict[str, float]) -> list[Node]:
    return [Node(f"n{number}", of) for number, of in enumerate(amounts)]


@pytest.mark.parametrize(
    ("units", "there", "fits"),
    [
        ([unit({"CPU": 3})], [{"CPU": 2}, {"CPU": 2}], False),
        ([unit({"CPU": 2})] * 2, [{"CPU": 2}, {"CPU": 2}], True),
        ([unit({"CPU": 2})] * 2, [{"CPU": 3}, {"CPU": 1}], False),
        ([unit({"GPU": 1}, {"GPU": 1})], [{"GPU": 1}, {"GPU": 1}], False),
        ([unit({"CPU": 1, "GPU": 1}, {"GPU": 1})], [{"CPU": 8, "GPU": 2}], True),
        ([unit({"GPU": 0.6})] * 3, [{"GPU": 2}], False),
        ([unit({"GPU": 0.6})] * 3, [{"GPU": 3}], True),
        ([unit({"GPU": 0.5})] * 4, [{"GPU": 2}], True),
        ([unit({"GPU": 0.5}), unit({"GPU": 1})], [{"GPU": 1}], False),
        ([unit({"CPU": 0.1})] * 10, [{"CPU": 1}], True),
        ([unit({"CPU": 1e-4})], [{}], False),
        ([unit({"CPU": 0.0})], [], False),
        ([], [], True),
    ],
)
def test_cases(units: list[Unit], there: list[dict[str, float]], fits: bool) -> None:
    assert (place(units, nodes(*there)) is not None) == fits


def test_first_fit_alone_would_miss_this() -> None:
    """Largest first on the fullest node leaves 1 free on either, and 2 are wanted."""
    wanted = [unit({"CPU": cpus}) for cpus in (4, 3, 3, 2, 2, 2)]
    assert place(wanted, nodes({"CPU": 8}, {"CPU": 8})) == Placed()


amounts = st.fixed_dictionaries(
    {"CPU": st.sampled_from([0, 0.5, 1, 2]), "GPU": st.sampled_from([0, 0, 0.4, 0.6, 1, 2])}
).filter(lambda bundle: any(bundle.values()))
machines = st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 4), "GPU": st.integers(0, 2)}), min_size=1, max_size=3)


def every_way(bundles: list[dict[str, float]], there: list[dict[str, int]]) -> bool:
    """Try every node, and every device for what is less than a GPU."""
    places = [(node, device) for node, of in enumerate(there) for device in range(max(1, of["GPU"]))]
    return any(_holds(bundles, there, chosen) for chosen in itertools.product(places, repeat=len(bundles)))


def _holds(bundles: list[dict[str, float]], there: list[dict[str, int]], chosen: tuple[tuple[int, int], ...]) -> bool:
    for node, of in enumerate(there):
        mine = [(bundle, device) for bundle, (at, device) in zip(bundles, chosen, strict=True) if at == node]
        if sum(bundle["CPU"] for bundle, _ in mine) > of["CPU"]:
            return False
        shares = [sum(b["GPU"] for b, device in mine if device == d and 0 < b["GPU"] < 1) for d in range(of["GPU"])]
        if any(b["GPU"] for b, _ in mine) and not of["GPU"]:
            return False
        whole = sum(int(bundle["GPU"]) for bundle, _ in mine if bundle["GPU"] >= 1)
        if any(share > 1 + 1e-9 for share in shares) or whole > sum(share == 0 for share in shares):
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.lists(amounts, min_size=1, max_size=4), machines)
def test_it_finds_a_way_exactly_where_there_is_one(
    bundles: list[dict[str, float]], there: list[dict[str, int]]
) -> None:
    found = place([unit(bundle) for bundle in bundles], nodes(*[dict(of) for of in there]))
    assert (found is not None) == every_way(bundles, there)
    assert found is None or found.sure


@settings(max_examples=100, deadline=None)
@given(st.lists(amounts, min_size=1, max_size=5), machines, machines)
def test_more_nodes_never_hurt(
    bundles: list[dict[str, float]], there: list[dict[str, float]], added: list[dict[str, float]]
) -> None:
    units = [unit(bundle) for bundle in bundles]
    if place(units, nodes(*there)):
        assert place(units, nodes(*there, *added))
    kinds = tuple(Kind(str(number), of, 1) for number, of in enumerate(added))
    grown = place(units, nodes(*there), Growth(kinds, len(kinds)))
    assert (grown is None) == (place(units, nodes(*there, *added)) is None)


def test_a_cluster_starts_no_more_nodes_than_it_may() -> None:
    gpu = Kind("gpu", {"CPU": 8, "GPU": 1}, 4)
    wanted = [unit({"CPU": 1, "GPU": 1})] * 4
    assert place(wanted, nodes({"CPU": 4}), Growth((gpu,), 12)) == Placed(("gpu",) * 4)
    assert place(wanted, nodes({"CPU": 4}, gpu.amounts), Growth((gpu._replace(more=3),), 12)) == Placed(("gpu",) * 3)
    assert place(wanted, nodes({"CPU": 4}), Growth((gpu,), 3)) is None
    assert place(wanted, nodes({"CPU": 4}), Growth((gpu._replace(more=3),), 12)) is None
    assert place([unit({"CPU": 2})], nodes({"CPU": 4}), Growth((gpu,), 12)) == Placed()


def test_large_clusters_take_no_time() -> None:
    """300 nodes, 1,200 actors; the last of them is one too many."""
    there = nodes(*[{"CPU": 16.0, "GPU": 4.0}] * 300)
    assert place([unit({"CPU": 2, "GPU": 1})] * 1200, there) == Placed()
    assert place([unit({"CPU": 2, "GPU": 1})] * 1201, there, NO_GROWTH) is None


def test_a_search_that_takes_too_long_refuses_nothing() -> None:
    """97 units of many sizes on nodes that are all but full: nobody can say."""
    wanted = [unit({"CPU": 1 + number / 1000, "memory": 3 - number / 1000}) for number in range(97)]
    found = place(wanted, nodes(*[{"CPU": 3.1, "memory": 8.87}] * 33))
    assert found is None or not found.sure or found == Placed()


def test_resources_are_spelt_as_ray_does() -> None:
    assert spelt({"GPU": 0.5, "CPU": 2.0}) == "{CPU: 2, GPU: 0.5}"
