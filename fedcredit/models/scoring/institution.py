"""An accessing institution: asks for scores and verifications, and is the only one to read them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from fedcredit.errors import FedCreditError, Refusal, TransportError
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.tokens import token_digest
from fedcredit.models.scoring.ask_score import ask_scores, give_back, own_matrix
from fedcredit.models.scoring.ask_verification import VerificationResult, ask_verification
from fedcredit.models.scoring.results import ScoreBatch, ScoreResult
from fedcredit.models.scoring.served import ServedModel
from fedcredit.models.scoring.service_messages import (
    ConsentsPresented,
    ModelHeader,
    ModelQuery,
    RevocationPresented,
    TokensChecked,
)
from fedcredit.models.scoring.subjects import normalised_subjects
from fedcredit.models.scoring.talks import (
    WITNESS_EVERY,
    ServiceConnection,
    Talk,
    Talks,
    run,
)
from fedcredit.models.scoring.witnessing import Watch
from fedcredit.protocols.verification import DeclaredValue
from fedcredit.wire import Peers

__all__ = ["Institution", "ServiceConnection"]

R = TypeVar("R")
Role = Callable[[Peers], Coroutine[Any, Any, R]]
_STEP = "ask"
#: A session that is lost is opened again this often within one call.
_ATTEMPTS = 2


class Institution:
    """A bank, insurer or guarantor that asks about enterprises.

    Keys live in this process: the platform and the providers handle ciphertexts only. Sessions
    are opened when they are needed and stay open; safe to share between threads, whose questions
    take turns.

    Parameters
    ----------
    connection : ServiceConnection
        From :func:`fedcredit.connect` with an institution's configuration, or
        :meth:`fedcredit.Federation.accede` in a simulation.
    clock : callable, optional
        Gives seconds since the epoch.
    ledger : Ledger, optional
        Keeps what was witnessed of the parties' audit logs; in memory by default. It is closed
        with the institution.
    witness_every : int
        Questions of a session after which all its members exchange checkpoints again; they also
        do so when it starts.

    Attributes
    ----------
    name : str

    Examples
    --------
    >>> import fedcredit as fc
    >>> bank = fc.connect("bank.toml")  # doctest: +SKIP
    >>> result = bank.score(uscc, token, model="sme-card@1")  # doctest: +SKIP
    >>> result.score, result.band  # doctest: +SKIP
    """

    def __init__(
        self,
        connection: ServiceConnection,
        *,
        clock: Callable[[], float] = time.time,
        ledger: Ledger | None = None,
        witness_every: int = WITNESS_EVERY,
    ) -> None:
        self.name = connection.institution
        self._connection = connection
        self._clock = clock
        self._ledger = ledger if ledger is not None else Ledger("sqlite://", party=self.name)
        self._watch = Watch(connection.identity, self._ledger, clock)
        self._talks = Talks(connection, self._watch, witness_every=witness_every)
        self._headers: dict[str, ServedModel] = {}

    def __repr__(self) -> str:
        return f"Institution({self.name!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an institution holds keys and connections and is never pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take leave of all parties and disconnect."""
        self._talks.close()
        self._connection.close()
        self._ledger.close()

    # ------------------------------------------------------------------------- audit logs

    @property
    def log_alarms(self) -> dict[str, str]:
        """Parties whose audit logs were rewritten or have forked, and who says so.

        As long as a party stands here, its statements are no evidence. The notes that show it are
        kept with the checkpoints.
        """
        return dict(self._watch.alarms)

    def witnessed(self, party: str) -> int:
        """Return the largest size at which this institution has witnessed a party's log."""
        return self._watch.known(party)

    # ----------------------------------------------------------------------------- scores

    def score(
        self,
        subject: str,
        consent: str,
        *,
        model: str,
        purpose: str = "credit_granting",
        mode: str = "homomorphic",
        reasons: int = 0,
        own: Mapping[str, Any] | None = None,
        allow_fallback: bool = False,
    ) -> ScoreResult:
        """Ask for the score of one enterprise.

        Parameters
        ----------
        subject : str
            Unified social credit code.
        consent : str
            The enterprise's token, or ``"sha256:<hex>"`` of one that was presented before.
        model : str
            ``name@version``.
        purpose : str
            One of :data:`fedcredit.governance.question.PURPOSES`, as the consent names it.
        mode : {"homomorphic", "masked"}
            Whether the parties' parts travel under this institution's key, or as sealed shares
            that it adds up itself (faster, the same privacy against the platform and the
            providers; see :mod:`fedcredit.protocols.scoring`).
        reasons : int
            Reason codes of each party, 0 to 4; the consent must cover them.
        own : mapping of str to value, optional
            The institution's own features that the model asks for; they travel encrypted.
        allow_fallback : bool
            Whether a fallback model may be used if a provider is away; the result says so. The
            consent must cover it.

        Returns
        -------
        ScoreResult

        Raises
        ------
        InputError
            The code is none, or own features are missing or unusable.
        Refusal
            A party does not allow it; ``error.code`` says by which rule, ``error.party`` who.
        PeerProtocolError, AuthenticationError
            What came back does not check.
        TransportError
            The hub or the platform cannot be reached.
        """
        table = None if own is None else {name: [value] for name, value in own.items()}
        batch = self.score_batch(
            [subject],
            [consent],
            model=model,
            purpose=purpose,
            mode=mode,
            reasons=reasons,
            own=table,
            allow_fallback=allow_fallback,
        )
        result: ScoreResult = batch[0]
        return result

    def score_batch(
        self,
        subjects: Sequence[str],
        consents: Sequence[str],
        *,
        model: str,
        purpose: str = "credit_granting",
        mode: str = "homomorphic",
        reasons: int = 0,
        own: Any = None,
        allow_fallback: bool = False,
    ) -> ScoreBatch:
        """Ask for the scores of up to 4,096 enterprises at once; see :meth:`score`.

        Parameters
        ----------
        subjects, consents : sequence of str
            One consent per enterprise. All are answered, or none.
        own : table, optional
            One row per enterprise, a column per own feature.

        Returns
        -------
        ScoreBatch
        """
        names = normalised_subjects(subjects)
        tokens = tuple(consents)
        header, missing = self._available(model, allow_fallback=allow_fallback)
        features = own_matrix(header, own, len(names))

        sent: list[bytes] = []

        def ask(talk: Talk) -> ScoreBatch:
            return run(
                talk,
                lambda peers: ask_scores(
                    peers,
                    talk.side,
                    header,
                    subjects=names,
                    consents=tokens,
                    purpose=purpose,
                    mode=mode,
                    reasons=reasons,
                    own=features,
                    now=self._clock(),
                    keys=talk.keys,
                    certificates=talk.certificates,
                    missing=missing,
                    fallback=bool(missing),
                    on_request=sent.append,
                ),
            )

        try:
            return self._talks.ask(header.parties, ask)
        except TransportError:
            self._give_back(header, sent)
            raise

    def _give_back(self, header: ServedModel, sent: Sequence[bytes]) -> None:
        """Have the consents of lost requests given back by whoever can be reached."""
        with contextlib.suppress(FedCreditError):
            here = [p for p in header.parties if p not in self._away(header.parties)]
            for request in sent if header.platform in here else ():

                async def role(peers: Peers, request: bytes = request) -> int:
                    return await give_back(peers, header.platform, header.providers, request)

                self._talks.ask(here, lambda talk, role=role: run(talk, role))  # type: ignore[misc]

    def models(self) -> list[ServedModel]:
        """Return the models that the platform serves."""
        found = self._query("")
        self._headers.update({model.target: model for model in found})
        return found

    def _query(self, target: str) -> list[ServedModel]:
        async def role(peers: Peers) -> tuple[str, ...]:
            platform = peers[self._connection.platform]
            await platform.send(ModelQuery(target))
            return (await platform.recv(ModelHeader)).headers

        texts = self._talks.ask((self._connection.platform,), lambda talk: run(talk, role))
        return [ServedModel.from_json(text) for text in texts]

    def _header(self, target: str) -> ServedModel:
        if target not in self._headers:
            found = [model for model in self._query(target) if model.target == target]
            if not found:
                raise Refusal(
                    "the platform serves no such model.",
                    code="model_unknown",
                    party=self._connection.platform,
                    step="score",
                    fix="see Institution.models() or `fedcredit score models`",
                )
            self._headers[target] = found[0]
        return self._headers[target]

    def _available(
        self, target: str, *, allow_fallback: bool
    ) -> tuple[ServedModel, tuple[str, ...]]:
        """Return the model to use, and the parties whose absence made it another one."""
        header = self._header(target)
        away = self._away(header.parties)
        if not away:
            return header, ()
        if header.fallback and allow_fallback:
            other = self._header(header.fallback)
            if not self._away(other.parties):
                return other, away
        raise Refusal(
            f"{', '.join(away)} cannot be reached, and without it there is no score.",
            code="party_missing",
            party=away[0],
            step="score",
            fix="ask again later"
            + (", or allow the fallback model" if header.fallback and not allow_fallback else ""),
        )

    def _away(self, parties: Collection[str]) -> tuple[str, ...]:
        here = set(self._connection.present())
        return tuple(party for party in parties if party not in here)

    # ----------------------------------------------------------------------- verification

    def verify(
        self,
        subject: str,
        consent: str,
        *,
        provider: str,
        predicate: str,
        threshold: float | str | None = None,
        declared: DeclaredValue | Any = None,
        field: str = "",
        tolerance: int | None = None,
        purpose: str = "credit_granting",
    ) -> VerificationResult:
        """Ask a provider a yes-or-no question of its menu.

        Parameters
        ----------
        subject, consent, purpose : str
            As for :meth:`score`.
        provider : str
        predicate : str
            Its id in the provider's catalog, for instance ``"paid_at_least"``.
        threshold : float or str, optional
            From the predicate's menu.
        declared : Declaration, DeclaredValue or int, optional
            What the enterprise declared, to be compared with the provider's record, which does
            not see it.
        field : str
            Which figure of a declaration; needed if it declares several.
        tolerance : int, optional
            Of a declared value, in steps of the predicate's resolution, from its menu.

        Returns
        -------
        VerificationResult
            With the statement that the provider signed.

        Raises
        ------
        Refusal, PeerProtocolError, AuthenticationError, TransportError
            As for :meth:`score`.
        """
        (name,) = normalised_subjects([subject])
        away = self._away((provider,))
        if away:
            raise Refusal(
                f"{provider} cannot be reached.",
                code="party_missing",
                party=provider,
                step="verify",
                fix="ask again later",
            )

        def ask(talk: Talk) -> VerificationResult:
            return run(
                talk,
                lambda peers: ask_verification(
                    peers[provider],
                    talk.side.keys,
                    institution=self.name,
                    subject=name,
                    consent=consent,
                    predicate=predicate,
                    threshold=threshold,
                    declared=declared,
                    field=field,
                    tolerance=tolerance,
                    purpose=purpose,
                    now=self._clock(),
                    key=talk.keys[provider],
                    certificate=talk.certificates.get(provider, b""),
                ),
            )

        return self._talks.ask((self._connection.platform, provider), ask)

    # --------------------------------------------------------------------------- consents

    def present(self, consents: Sequence[str], *, parties: Sequence[str] = ()) -> list[str]:
        """Have consents checked and registered ahead of the questions that will use them.

        Parameters
        ----------
        consents : sequence of str
            At most 4,096 tokens.
        parties : sequence of str, optional
            Where; all parties that are connected by default.

        Returns
        -------
        list of str
            ``"sha256:<hex>"`` of each, which stands for it from now on and costs no signature
            check.

        Raises
        ------
        Refusal
            A consent does not check at a party.
        """
        tokens = tuple(consents)
        self._hand_over(ConsentsPresented(tokens), parties, "present consents")
        return [f"sha256:{token_digest(token).hex()}" for token in tokens]

    def deliver_revocation(self, revocation: str, *, parties: Sequence[str] = ()) -> None:
        """Hand an enterprise's signed withdrawal to the parties; effective at once.

        Raises
        ------
        Refusal
            It does not check at a party.
        """
        self._hand_over(RevocationPresented(revocation), parties, "withdraw a consent")

    def _hand_over(
        self, message: ConsentsPresented | RevocationPresented, parties: Sequence[str], step: str
    ) -> None:
        """Let parties check tokens; every reply is awaited before a refusal is raised."""
        chosen = tuple(parties) or self._connection.present()

        async def role(peers: Peers) -> dict[str, TokensChecked]:
            for name in chosen:
                await peers[name].send(message)
            return {name: await peers[name].recv(TokensChecked) for name in chosen}

        members = {self._connection.platform, *chosen}
        replies = self._talks.ask(tuple(members), lambda talk: run(talk, role))
        for party, reply in replies.items():
            if reply.code:
                raise Refusal(
                    reply.reason, code=reply.code, party=party, step=step, fix=reply.fix or None
                )
