import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.ledger import Ledger, answers_schema, replies
from medsae_ray.errors import ArtifactError


def answer(number: int, p: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    row = {"address": f"a{number:03d}", "image_id": "i", "name": "edema", "definition": None, "p_yes": p, "mass": 1.0}
    return {**row, **changes}


def ledger(folder: Path) -> Ledger:
    return Ledger(Store(str(folder)), answers_schema())


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.append([answer(2, 0.25), answer(1, definition="white lungs")])
    book.append([answer(3, float("nan"), mass=float("nan"), failed="timeout"), answer(4, float("nan"))])
    loaded = book.load()
    assert loaded.table.schema == answers_schema()
    assert loaded.table["address"].to_pylist() == ["a001", "a002", "a003", "a004"]
    assert loaded.table["p_yes"].to_pylist() == [0.5, 0.25, None, None]
    assert loaded.table["failed"].to_pylist() == [None, None, "timeout", "nan"]
    assert loaded.answered() == {"a001", "a002"}


def test_rows_are_found_by_their_address_in_the_order_asked_for(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.append([answer(n, n / 10) for n in (5, 3, 1)])
    loaded = book.load()
    assert loaded.rows(["a003", "a001", "a003"])["p_yes"].to_pylist() == [0.3, 0.1, 0.3]
    assert loaded.rows([]).schema == answers_schema() and loaded.rows([]).num_rows == 0
    with pytest.raises(ArtifactError, match="no row at 2 addresses, the first is a002"):
        loaded.rows(["a001", "a002", "a004"])


def test_written_replies_are_kept_too(tmp_path: Path) -> None:
    book = Ledger(Store(str(tmp_path)), replies())
    row = {"address": "a", "feature": 3, "attempt": 1, "text": "not JSON", "finish": "stop"}
    book.append([row])
    assert book.load().table.to_pylist() == [{**row, "failed": None}]
    assert book.load().answered() == {"a"}


def test_an_empty_ledger_holds_nothing(tmp_path: Path) -> None:
    book = ledger(tmp_path / "missing")
    assert book.append([]) is None
    assert book.load()[1:] == (0, 0, 0) and book.load().table.schema == answers_schema()


def test_the_first_file_wins_and_an_answer_beats_a_failure(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    names = {book.append([answer(1, p)]): p for p in (0.1, 0.2, 0.3)}
    assert book.load().table["p_yes"].to_pylist() == [names[min(names)]]
    for number in range(2, 12):
        book.append([answer(number, None, failed="engine lost")])
        book.append([answer(number, 0.75)])
    assert book.load().table["p_yes"].to_pylist()[1:] == [0.75] * 10
    assert book.load().duplicates == 2 + 10


def test_torn_and_foreign_files_are_ignored_and_counted(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    first, second = (book.append([answer(n)]) for n in (1, 2))
    (tmp_path / str(first)).write_bytes((tmp_path / str(first)).read_bytes()[:-7])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f"rows-{'0' * 32}.parquet").write_bytes((tmp_path / str(second)).read_bytes())
    Ledger(book.store, replies()).append(
        [{"address": "a", "feature": 0, "attempt": 0, "text": "x", "finish": "stop", "failed": None}]
    )
    loaded = book.load()
    assert (loaded.files, loaded.ignored, loaded.answered()) == (1, 4, {"a002"})


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    with pytest.raises(ArtifactError, match=r"unknown columns \['p'\]"):
        book.append([answer(1, p=0.5) | {"p": 1}])
    with pytest.raises(ArtifactError, match="'address' has 1 nulls"):
        book.append([answer(1, address=None)])
    with pytest.raises(ArtifactError, match="does not fit"):
        book.append([answer(1, p_yes="yes")])
    assert book.load().files == 0


batch = st.lists(st.integers(0, 30), min_size=1, max_size=5)
step = st.tuples(st.sampled_from(["append", "killed before", "killed torn", "append and load"]), batch)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(step, max_size=12))
def test_no_interleaving_of_appends_and_kills_loses_a_finished_answer(steps: list, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    writers, finished, answers_of = [ledger(folder), ledger(folder)], set(), {}
    for turn, (what, numbers) in enumerate(steps):
        rows = [answer(n, (turn + 1) / 100) for n in numbers]
        if what.startswith("append"):
            writers[turn % 2].append(rows)
            finished |= {row["address"] for row in rows}
            for row in rows:
                answers_of.setdefault(row["address"], set()).add(row["p_yes"])
        elif what == "killed before":
            (folder / f".rows-{turn:032x}.parquet.0.tmp").write_bytes(b"PAR1 half")
        else:
            (folder / f"rows-{turn:032x}.parquet").write_bytes(b"PAR1 half")
        if what == "append and load":
            assert writers[0].load().answered() == finished
    table = ledger(folder).load().table
    assert set(table["address"].to_pylist()) == finished and table.num_rows == len(finished)
    assert all(row["p_yes"] in answers_of[row["address"]] for row in table.to_pylist())


WRITER = """
import sys
from medsae_ray.core.naming.ledger import Ledger, answers_schema
from medsae_ray.core.artifacts.store import Store
book = Ledger(Store(sys.argv[1]), answers_schema())
for n in range(10**6):
    book.append([{"address": f"{sys.argv[2]}{n}", "image_id": "i", "name": "x", "p_yes": 0.5, "mass": 1.0}])
    print(n, flush=True)
"""


def test_answers_of_two_writers_that_are_killed_are_all_there(tmp_path: Path) -> None:
    arguments = [[sys.executable, "-c", WRITER, str(tmp_path), name] for name in "ab"]
    writers = [subprocess.Popen(a, stdout=subprocess.PIPE, text=True) for a in arguments]
    for writer, pause in zip(writers, (0.3, 0.17), strict=True):
        assert writer.stdout is not None and writer.stdout.readline()
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
    last = [([0] + [int(line) for line in w.communicate()[0].split()])[-1] for w in writers]
    answered = ledger(tmp_path).load().answered()
    assert answered >= {f"{name}{n}" for name, end in zip("ab", last, strict=True) for n in range(end + 1)}
    assert len(answered) <= sum(last) + 4 and min(last) > 0
