import math

import pyarrow as pa

from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming.ledger import answers_schema
from medsae_ray.core.naming.plan import Concept
from medsae_ray.outputs.report_names import answers_of


def sample(feature, image, role, value, purpose="detection"):
    return {"feature": feature, "purpose": purpose, "role": role, "image_id": image, "value": value}


def answer(image, name, p, definition=None):
    return {"address": f"{image} {name}", "image_id": image, "name": name, "definition": definition, "p_yes": p}


def test_each_feature_has_the_answers_to_its_own_name_on_its_own_images():
    rows = [
        sample(3, "a", "bin0", 0.4),
        sample(3, "b", "hard", 0.0),
        sample(3, "c", "equal", 0.0),
        sample(4, "a", "bin1", 2.0),
        sample(5, "a", "bin1", 2.0),
        sample(3, "z", "top", 1.0, "naming"),
        sample(-1, "a", "pool", 0.0, "pool"),
    ]
    said = [
        answer("a", "tube", 0.9, "a line"),
        answer("a", "tube", 0.1),
        answer("b", "tube", None, "a line"),
        answer("a", "nodule", 0.3),
    ]
    found = answers_of(
        {3: Concept("tube", "a line"), 4: Concept("nodule")},
        pa.Table.from_pylist(rows, schema=schema.samples()),
        pa.Table.from_pylist(said, schema=answers_schema()),
    )
    assert set(found) == {3, 4}
    assert found[3].p_yes[0] == 0.9 and all(math.isnan(p) for p in found[3].p_yes[1:])
    assert (found[3].y, found[3].role) == ([1, 0, 0], ["bin0", "hard", "equal"])
    assert (found[4].p_yes, found[4].y) == ([0.3], [1])
