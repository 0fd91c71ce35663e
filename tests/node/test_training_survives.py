"""Training with real processes, mutual TLS and the real engine, while processes are killed."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedcredit.errors import FedCreditError, PeerUnavailable, StorageError
from fedcredit.models.gbdt import VerticalGBDTClassifier
from fedcredit.models.load import load_model
from fedcredit.models.shares import StoredForest
from fedcredit.node.pki import CertificateAuthority
from fedcredit.node.remote import Event
from tests.support.command import invoke
from tests.support.site import FEDCREDIT, PLATFORM, Site, make_site

FRAME = "pilot"
TREES = 4


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Look again and again until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.005)


@dataclass
class Watch:
    """Notes what a training does, and disturbs it once.

    ``disturb`` is called ``after_messages`` messages after tree ``after_tree`` was checkpointed;
    0 messages: right after the checkpoint.
    """

    disturb: Callable[[], object] = lambda: None
    after_tree: int = 2
    after_messages: int = 7
    trees: list[int] = field(default_factory=list)
    events: list[tuple[str, str | None]] = field(default_factory=list)
    _countdown: int = 0

    def on_progress(self, step: str, done: int, total: int) -> None:
        if step != "train":
            return
        self.trees.append(done)
        if done == self.after_tree and self.trees.count(done) == 1:
            self._countdown = self.after_messages
            if not self.after_messages:
                self.disturb()

    def on_message(self) -> None:
        if self._countdown:
            self._countdown -= 1
            if not self._countdown:
                self.disturb()

    def on_event(self, event: Event) -> None:
        self.events.append((event.kind, event.party))

    @property
    def opened(self) -> int:
        return sum(kind == "opened" for kind, _ in self.events)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with make_site(tmp_path_factory.mktemp("survives"), rows=1500).run() as site:
        with site.connect() as federation:
            federation.align(name=FRAME)
        yield site


def train(site: Site, watch: Watch, *, resume: str | None = None, config: Path | None = None):
    """Train on the aligned rows; return the model, which knows its id even if it failed."""
    model = VerticalGBDTClassifier(n_estimators=TREES, max_depth=2, random_state=3)
    with site.connect(
        config,
        on_event=watch.on_event,
        on_message=watch.on_message,
        on_progress=watch.on_progress,
    ) as federation:
        try:
            model.fit(federation.frame(FRAME), site.data.label, resume=resume)
        except FedCreditError as error:
            error.model_id = model.model_id_
            raise
    return model


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> str:
    watch = Watch()
    fingerprint = train(site, watch).fingerprint()
    assert watch.trees == [1, 2, 3, 4]
    assert watch.opened == 1
    return fingerprint


@pytest.mark.parametrize(
    ("victims", "number", "messages"),
    [
        (["tax"], signal.SIGKILL, 7),
        pytest.param(["tax"], signal.SIGKILL, 0, marks=pytest.mark.slow),
        pytest.param(["tax", "social_security"], signal.SIGKILL, 7, marks=pytest.mark.slow),
        pytest.param(["social_security"], signal.SIGTERM, 7, marks=pytest.mark.slow),
    ],
    ids=["killed in a tree", "killed between trees", "both killed", "stopped in a tree"],
)
def test_a_provider_that_comes_back(site: Site, undisturbed: str, victims, number, messages):
    codes = []

    def disturb() -> None:
        for name in victims:
            codes.append(site.end(name, number))
            site.start(name)

    watch = Watch(disturb, after_messages=messages)
    model = train(site, watch)
    assert codes == [0 if number == signal.SIGTERM else -signal.SIGKILL] * len(victims)
    assert model.fingerprint() == undisturbed
    # Trees 1 and 2 were not grown again, and the session was opened once more, no oftener.
    assert watch.trees == [1, 2, 3, 4]
    assert 2 <= watch.opened <= 1 + len(victims)
    assert {party for kind, party in watch.events if kind == "lost"} <= set(victims)


def test_the_hub_that_comes_back(site: Site, undisturbed: str):
    watch = Watch(lambda: site.restart("hub"))
    model = train(site, watch)
    assert model.fingerprint() == undisturbed
    assert watch.trees == [1, 2, 3, 4]
    assert watch.opened == 1
    assert ("disconnected", None) in watch.events


@pytest.mark.slow
def test_one_after_the_other(site: Site, undisturbed: str):
    victims = iter(["tax", "hub", "social_security"])
    watch = Watch()

    def on_progress(step: str, done: int, total: int) -> None:
        watch.on_progress(step, done, total)
        name = next(victims, None)
        if name is not None:
            site.restart(name, signal.SIGTERM if name == "social_security" else signal.SIGKILL)

    model = VerticalGBDTClassifier(n_estimators=TREES, max_depth=2, random_state=3)
    with site.connect(on_event=watch.on_event, on_progress=on_progress) as federation:
        model.fit(federation.frame(FRAME), site.data.label)
    assert model.fingerprint() == undisturbed
    assert watch.trees == [1, 2, 3, 4]
    assert watch.opened == 3


def test_the_platform_that_is_run_again(site: Site, tmp_path: Path):
    options = [*("--frame", FRAME, "--trees", str(TREES), "--depth", "2", "--seed", "3")]
    command = ["train", str(site.config(PLATFORM)), *options, "--json"]
    whole, again = tmp_path / "whole.fed", tmp_path / "again.fed"
    invoke(*command, "--model", whole)

    folder = site.state(PLATFORM) / "checkpoint"
    before = set(folder.iterdir())

    def two_trees() -> bool:
        new = [path for path in folder.iterdir() if path.name[0] != "." and path not in before]
        return any(len(StoredForest.read(p.read_bytes()).unpack()[0].trees) >= 2 for p in new)

    with subprocess.Popen(
        [*FEDCREDIT, *command, "--model", again],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(two_trees, "the second tree")
        finally:
            process.kill()
        _, told = process.communicate()
    (checkpoint,) = set(folder.iterdir()) - before
    assert f"--frame {FRAME} --resume {checkpoint.name}" in told
    assert not again.exists()
    done = invoke(*command, "--model", again, "--resume", checkpoint.name)
    assert json.loads(done.stdout)["model"] == checkpoint.name
    with site.connect() as federation:
        models = [load_model(path.read_bytes(), federation) for path in (whole, again)]
    assert models[0].fingerprint() == models[1].fingerprint()


def test_a_provider_that_stays_away_is_named(site: Site, undisturbed: str):
    watch = Watch(lambda: site.end("tax", signal.SIGTERM))
    begin = time.monotonic()
    with pytest.raises(PeerUnavailable, match="not connected to the hub: tax") as caught:
        train(site, watch, config=site.impatient(2.0))
    assert time.monotonic() - begin < 20
    assert (caught.value.party, caught.value.step) == ("tax", "open a session")
    assert "fedcredit party start" in caught.value.fix
    site.start("tax").wait_for_line("connected")
    later = Watch()
    model = train(site, later, resume=caught.value.model_id)
    assert model.fingerprint() == undisturbed
    assert later.trees == [3, 4]


def test_a_full_disk_at_a_provider(site: Site, undisturbed: str):
    pid = site.running["tax"].process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    watch = Watch(lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (64, hard)))
    with pytest.raises(StorageError) as caught:
        train(site, watch)
    assert (caught.value.party, caught.value.step) == ("tax", "storage: write")
    assert "free space" in caught.value.fix
    assert watch.trees == [1, 2]
    # The process goes on; what it kept is whole.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert site.running["tax"].process.poll() is None
    later = Watch()
    model = train(site, later, resume=caught.value.model_id)
    assert model.fingerprint() == undisturbed
    assert later.trees == [3, 4]


@pytest.mark.slow
def test_providers_that_cannot_join(tmp_path: Path):
    site = make_site(tmp_path, rows=500)
    authority, stranger = CertificateAuthority(), CertificateAuthority("another CA")
    past = datetime.now(UTC) - timedelta(days=60)
    authority.write_party(tmp_path / PLATFORM, PLATFORM)
    authority.write_party(tmp_path / "tax", "tax", days=30, now=past)
    stranger.write_party(tmp_path / "social_security", "social_security")
    assert site.providers == ["tax", "social_security"]
    try:
        site.start("hub").wait_for_line("listens")

        def failure(name: str) -> tuple[int, str]:
            process = site.start(name)
            code = process.process.wait(60)
            process.stop()
            return code, (tmp_path / f"{name}.log").read_text()

        code, log = failure("tax")
        assert code == 2
        assert "party tax" in log
        assert f"expired on {past + timedelta(days=30):%Y-%m-%d}" in log
        # It does not trust the hub's CA ...
        code, log = failure("social_security")
        assert code == 5
        assert "the certificate of the hub" in log
        assert "was refused" in log
        # ... and, when it does, the hub does not trust its CA.
        ca = tmp_path / "social_security" / "ca.pem"
        ca.write_bytes(authority.pem + stranger.pem)
        code, log = failure("social_security")
        assert code == 5
        assert "ended the connection on seeing the certificate of social_security" in log
        assert "Traceback" not in log

        begin = time.monotonic()
        with (
            site.connect(site.impatient(1.0)) as federation,
            pytest.raises(PeerUnavailable, match=r"hub: tax, social_security\.") as caught,
        ):
            federation.align()
        assert 1.0 <= time.monotonic() - begin < 10
        assert caught.value.party == "tax"
    finally:
        for process in site.running.values():
            process.stop()
