"""How fast the browser's pages are made, painted and filtered, for a made-up run of many features.

PYTHONPATH=. python benchmarks/browser_speed.py --features 8192 --to /tmp/pages
"""

import argparse
import io
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from scipy import sparse

from medsae_ray.core.artifacts import schema
from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.data import BrowserData, ImageTable
from medsae_ray.core.browser.folder import write_folder
from medsae_ray.core.browser.site import Site
from medsae_ray.core.report.data import EntropySummary, ReportData

LABELS = [f"Finding {number}" for number in range(14)]
WORDS = ("opacity", "effusion", "catheter", "border", "nodule", "shadow", "rib", "apex", "base", "hilum")
VERDICTS = ("verified", "rejected", "untested", "abstained")
TRIES = 15
PAINT = """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
  .observe({type: "paint", buffered: true}))"""
FILTER = """(words) => { const grid = Medsae.grid, start = performance.now(); grid.form.q.value = words; grid.chosen();
  grid.list.getBoundingClientRect(); return performance.now() - start; }"""


def atlas(features: int, images: int, rng: np.random.Generator) -> pa.Table:
    """Return a table like a run's, with top images of their own for each feature."""
    rows = []
    for feature in range(features):
        r, verdict = rng.normal(0, 0.2, len(LABELS)), VERDICTS[feature % 4]
        best = int(np.argmax(np.abs(r)))
        name = f"{WORDS[feature % 10]} at the {WORDS[feature // 10 % 10]}, kind {feature}" if feature % 4 < 3 else None
        rows.append(
            {
                **dict.fromkeys(schema.atlas(len(LABELS)).names),
                "space": "sae",
                "feature": feature,
                "n_images": images,
                "n_active": 500,
                "frequency": 500 / images,
                "mean_active": 1.0,
                "max": 4.0,
                "histogram": rng.integers(0, 60, schema.HISTOGRAM_BINS).tolist(),
                "top_images": [f"i{i}" for i in rng.choice(images, 16, replace=False)],
                "top_values": sorted(rng.uniform(2, 4, 16).tolist(), reverse=True),
                **{column: (r + shift).tolist() for column, shift in (("r", 0), ("r_low", -0.05), ("r_high", 0.05))},
                "entropy": 2.0,
                "best_label": LABELS[best],
                "best_r": float(r[best]),
                "auroc": 0.8,
                "auroc_low": 0.7,
                "auroc_high": 0.9,
                "auroc_positives": 100,
                "auroc_negatives": 400,
                "name": name,
                "name_source": "vlm" if name else None,
                "definition": f"A {WORDS[feature % 10]} seen at the {WORDS[feature // 10 % 10]}." if name else None,
                "verdict": verdict if name else None,
                "detection_auroc": 0.8 if name else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.atlas(len(LABELS)))


def run(features: int, images: int, access: Access) -> BrowserData:
    """Return a made-up run."""
    rng = np.random.default_rng(0)
    columns = ("epoch", "loss", "r2", "fvu", "l0", "dead_share")
    report = ReportData(
        title=f"{features:,} features",
        notice="Made up to measure the pages.",
        counts={"images": images},
        not_ok={},
        provenance={},
        labels=LABELS,
        sae={"width": features, "alive": features},
        entropy=EntropySummary(2.0, 2.2, 2.3, 0.01, 2.3, 0.01, len(LABELS), features, 768),
        log=pa.table({name: [0.5] for name in columns}),
        atlas=atlas(features, images, rng),
        findings=[],
        raw_findings=[],
        thumbnail=lambda image_id: None,
        stages=[],
    )
    table = ImageTable(
        id_N=[f"i{i}" for i in range(images)],
        patient_N=np.arange(images),
        split_N=["detection"] * images,
        dataset_N=["made up"] * images,
        labels=LABELS,
        y_NL=(rng.random((images, len(LABELS))) < 0.1).astype(np.float64),
        metadata={},
        number_N=rng.permutation(images),
    )
    decoder_FD = rng.normal(size=(features, 768))
    picture = png(rng)
    return BrowserData(
        report=report,
        images=table,
        x_NF=sparse.random_array((images, features), density=500 / images, rng=rng, format="csc", dtype=np.float32),
        decoder_FD=decoder_FD / np.linalg.norm(decoder_FD, axis=1, keepdims=True),
        tested=lambda feature: (),
        questions=lambda feature, source: None,
        picture=lambda image_id, side: picture,
        shade=lambda image_id, side: None,
        similar=lambda image_id: (),
        citation={"atlas": "made up"},
        access=access,
    )


def png(rng: np.random.Generator) -> bytes:
    """Return a smooth picture of 128 x 128 pixels."""
    grey = np.kron(rng.integers(40, 200, (16, 16)), np.ones((8, 8))) + rng.normal(0, 6, (128, 128))
    out = io.BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def painted(folder: Path, program: str) -> dict[str, Any]:
    """Return milliseconds in Chromium: the first paint of the grid and of a card, and a filter with its layout."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        paints = {name: [paint(browser, f"file://{folder}/{name}") for _ in range(TRIES)] for name in PAGES}
        page = browser.new_page(viewport={"width": 1366, "height": 900})
        page.goto(f"file://{folder}/index.html")
        queries = ["nodule", "rib apex", "kind 77", "", "zzz"] * 3
        filters = [page.evaluate(FILTER, query) for query in queries]
        browser.close()
    found = {f"paint {name}": spread(times) for name, times in paints.items()}
    return found | {"filter": spread(filters)}


PAGES = ("index.html", "feature/17.html")


def paint(browser: Any, address: str) -> float:
    """Return the time of the first contentful paint in a fresh window."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    page = context.new_page()
    page.goto(address)
    milliseconds = float(page.evaluate(PAINT))
    context.close()
    return milliseconds


def spread(values: list[float]) -> dict[str, float]:
    """Return median and largest."""
    return {"median_ms": round(statistics.median(values), 1), "largest_ms": round(max(values), 1)}


def main() -> None:
    """Write the folder, measure, and print JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--features", type=int, default=8192)
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--access", default="thumbnails")
    arguments.add_argument("--to", type=Path, required=True)
    chosen = arguments.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    data = run(chosen.features, chosen.images, chosen.access)
    start = time.perf_counter()
    files, size = write_folder(Site(data), chosen.to)
    found: dict[str, Any] = {
        "files": files,
        "MB": round(size / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }
    for name in ("index.html", "data/features.js", "feature/17.html", "data/17.js"):
        found[f"kB {name}"] = round((chosen.to / name).stat().st_size / 1e3, 1)
    print(json.dumps(found | (painted(chosen.to, program) if program else {}), indent=1))


if __name__ == "__main__":
    main()
