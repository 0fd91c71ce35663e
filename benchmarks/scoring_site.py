"""A federation that serves an institution, as processes of its own: certificates, keys, models.

The hub, the platform's service and two providers run as ``fedcredit`` processes over TCP with
mutual TLS, each with its SQLite database, consent checks and audit log. The institution and the
enterprises that consent are in the process that measures. The data are made: small firms, of which
all parties have a record.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fedcredit as fc
from fedcredit.cli.init import write_federation
from fedcredit.datasets import VerticalData, load
from fedcredit.governance import institutions
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.keys import KeyRegistry
from fedcredit.models.scoring.institution import Institution
from fedcredit.node.config import load_config
from fedcredit.node.connect import open_federation
from fedcredit.node.conversation import InstitutionConnection, connect_institution
from fedcredit.node.governing import open_ledger
from fedcredit.node.processes import running_federation
from fedcredit.wire import Transcript

PLATFORM, BANK, PURPOSE = "platform", "bank", "credit_granting"
CARD, FOREST = "sme-card@1", "sme-trees@1"
#: Who answers verifications, about which field, and how finely it is declared (CNY).
VERIFIER, FIELD, RESOLUTION = "tax", "annual_paid", 1000
MENU, DECLARED = "paid_at_least", "declared_paid"
THRESHOLD, TOLERANCE = 50_000, 5

#: High limits: a benchmark asks in a minute what an institution may ask in days.
BUDGETS = """
[budgets]
questions_per_day = 100000000
subjects_per_day = 100000000
per_subject_per_day = 1000000
per_field_per_day = 1000000000
per_model_per_day = 1000000000
per_minute = 10000000
subjects_per_minute = 100000000
new_subjects_per_hour = 100000000
max_ordered_questions = 1000000
"""
_PREDICATES = f"""
[[fields."{FIELD}".predicates]]
id = "{MENU}"
text = "the tax paid is at least {{threshold}} CNY"
operator = ">="
thresholds = [10000, {THRESHOLD}, 500000]

[[fields."{FIELD}".predicates]]
id = "{DECLARED}"
text = "the declared tax is right within {{tolerance}} CNY"
operator = "declared"
resolution = {RESOLUTION}
tolerances = [0, {TOLERANCE}]
"""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    rows : int
        Firms that the data are drawn from; somewhat more than a third are at all parties.
    trees, depth : int
    singles : int
        Scores of one enterprise per model and mode.
    batch, tree_batch : int
        Enterprises of a batch.
    batches, tree_batches : int
        Batches per mode.
    verifications : int
        Per kind.
    appends : int
        To the audit log.
    """

    rows: int = 11_000
    trees: int = 100
    depth: int = 5
    singles: int = 200
    batch: int = 4096
    tree_batch: int = 512
    batches: int = 10
    tree_batches: int = 3
    verifications: int = 200
    appends: int = 2_000

    @property
    def enterprises(self) -> int:
        """How many enterprises have keys."""
        return max(self.batch, self.tree_batch, 2 * self.singles)


QUICK = Size(
    rows=1_200,
    trees=3,
    depth=3,
    singles=8,
    batch=64,
    tree_batch=16,
    batches=2,
    tree_batches=1,
    verifications=6,
    appends=50,
)


class CountedConnection:
    """An institution's connection whose conversations count into one transcript."""

    def __init__(self, connection: InstitutionConnection) -> None:
        self.institution = connection.institution
        self.transcript = Transcript()
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def open(self, members: Sequence[str]) -> Any:
        """Open a conversation that counts."""
        return self._connection.open(members, transcript=self.transcript)

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes of messages that the institution has sent and received."""
        sent = received = 0
        for (sender, _, _), entry in self.transcript.counts.items():
            if sender == self.institution:
                sent += entry.bytes
            else:
                received += entry.bytes
        return sent, received


@dataclass
class Service:
    """The running service.

    Attributes
    ----------
    bank : Institution
    connection : CountedConnection
    processes : dict of str to int
        Process identifiers by party, without the institution's.
    enterprises : list of Enterprise
    expected : dict of str to ndarray of float64
        By model, the scores of the enterprises as the training side computes them.
    paid : ndarray of float64
        The field that is verified, of the enterprises.
    directory : Path
    setup : dict
        Seconds of what came before.
    """

    bank: Institution
    connection: CountedConnection
    processes: dict[str, int]
    enterprises: list[Enterprise]
    expected: dict[str, npt.NDArray[np.float64]]
    paid: npt.NDArray[np.float64]
    directory: Path
    setup: dict[str, Any]

    def consents(
        self, chosen: Sequence[int], scope: str, *, reasons: bool = False, uses: int = 1
    ) -> list[str]:
        """Let enterprises consent, each with a new token."""
        scopes = [scope, *(["reasons"] if reasons else [])]
        return [
            self.enterprises[k].grant(
                institution=BANK, purpose=PURPOSE, scope=scopes, max_uses=uses
            )
            for k in chosen
        ]

    def cpu(self) -> dict[str, float]:
        """CPU seconds of every process so far."""
        return {
            **{name: _cpu_seconds(pid) for name, pid in self.processes.items()},
            BANK: time.process_time(),
        }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(directory: Path, data: VerticalData) -> dict[str, Path]:
    """Write the federation's directory; return the configurations of the parties with data."""
    tables = {}
    for party, table in data.parties.items():
        tables[party] = directory / f"{party}.parquet"
        table.to_parquet(tables[party], index=False)
    written = write_federation(
        directory,
        platform=PLATFORM,
        tables=tables,
        label=data.label,
        id_column=data.key,
        id_kind="uscc",
        port=_free_port(),
        categorical=data.categorical,
        institutions=[BANK],
    )
    for party in tables:
        with written[party].open("a", encoding="utf-8") as file:
            file.write(BUDGETS)
    catalog = written[VERIFIER].with_name("catalog.toml")
    head, mark, field = catalog.read_text().partition(f'[fields."{FIELD}"]')
    field = field.replace('uses = ["training", "scoring"]', _USES, 1)
    catalog.write_text(head + mark + field + _PREDICATES)
    return {party: written[party] for party in tables}


_USES = "uses = " + json.dumps(["training", "scoring", "verification"])


def _register(configs: Mapping[str, Path], enterprises: Sequence[Enterprise]) -> None:
    """Enter keys and the institution at every party, in its own database."""
    now = time.time()
    for path in configs.values():
        config = load_config(path)
        with contextlib.closing(open_ledger(config)) as ledger:
            registry = KeyRegistry(ledger, party=config.party)
            with ledger.transaction() as tx:
                for enterprise in enterprises:
                    registry.add("subject", enterprise.uscc, enterprise.public_key, now, tx=tx)
                institutions.onboard(
                    tx,
                    BANK,
                    assessment="benchmark",
                    assessed=now,
                    expires=now + 86_400,
                    purposes=(PURPOSE,),
                    now=now,
                )


def _deploy(config: Path, data: VerticalData, size: Size) -> tuple[Any, dict[str, Any]]:
    """Fit both models, put them into service; return ids and scores by model, and seconds."""
    seconds: dict[str, Any] = {}
    expected = {}
    with open_federation(load_config(config)) as federation:
        frame = federation.align(data.key)
        y = data.label
        started = time.perf_counter()
        card = fc.VerticalScorecard(
            binner={"max_bins": 5}, selector={"min_iv": 0.0, "max_vif": None}
        ).fit(frame, y)
        seconds["card_fit_s"] = time.perf_counter() - started
        seconds["characteristics"] = len(card.share_.characteristics)
        federation.deploy(card, CARD, bands={"C": -1e9, "B": 580.0, "A": 620.0})
        expected[CARD] = np.asarray(card.points(frame), np.float64)
        started = time.perf_counter()
        forest = fc.VerticalGBDTClassifier(
            n_estimators=size.trees, max_depth=size.depth, hide_membership=False, random_state=0
        ).fit(frame, y)
        seconds["forest_fit_s"] = time.perf_counter() - started
        federation.deploy(forest, FOREST)
        expected[FOREST] = np.asarray(forest.decision_function(frame), np.float64)
        return [str(one) for one in frame.ids], {"seconds": seconds, "expected": expected}


@contextlib.contextmanager
def running_service(directory: Path, size: Size) -> Iterator[Service]:
    """Write, start, train, deploy and connect; stop everything at the end."""
    started = time.perf_counter()
    data = load("sme", n=size.rows, seed=1)
    configs = _write(directory, data)
    with running_federation(directory, PLATFORM, list(data.providers), serve=True) as running:
        ids, fitted = _deploy(configs[PLATFORM], data, size)
        order = np.random.default_rng(7).permutation(len(ids))[: size.enterprises]
        enterprises = [Enterprise.generate(ids[k]) for k in order]
        _register(configs, enterprises)
        paid = data.providers[VERIFIER].set_index(data.key)[FIELD]
        paid = paid[~paid.index.duplicated(keep=False)]
        with connect_institution(load_config(directory / BANK / f"{BANK}.toml")) as link:
            connection = CountedConnection(link)
            with Institution(connection) as bank:
                yield Service(
                    bank,
                    connection,
                    {name: managed.process.pid for name, managed in running.items()},
                    enterprises,
                    {name: scores[order] for name, scores in fitted["expected"].items()},
                    paid.reindex([one.uscc for one in enterprises]).to_numpy(np.float64),
                    directory,
                    {**fitted["seconds"], "setup_s": time.perf_counter() - started},
                )
