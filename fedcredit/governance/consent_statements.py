"""The statements that find consents, hold them to the rules and use them, thousands at once."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from fedcredit.governance.bulk import Builder, Statement, insertion
from fedcredit.governance.consent_rules import Standing
from fedcredit.governance.schema import CONSENT_TOKENS, CONSENTS, KEYS, REQUESTS, REVOCATIONS
from fedcredit.governance.tokens import CLOCK_SKEW

__all__ = [
    "ADD_CONSENT",
    "ADD_REQUEST",
    "ADD_TOKEN",
    "CAME_BEFORE",
    "COVERING",
    "DROP_REQUEST",
    "GIVE_BACK",
    "IDS",
    "STANDINGS",
    "USE",
    "WITHDRAWN",
]


def _standings(build: Builder) -> Any:
    asked = build.listed("asked", digest=bytes)
    return sa.select(
        *(CONSENTS.c[name] for name in Standing._fields[:11]), KEYS.c.status, REVOCATIONS.c.time
    ).select_from(
        asked.join(CONSENTS, CONSENTS.c.digest == asked.c.digest)
        .outerjoin(KEYS, KEYS.c.kid == CONSENTS.c.kid)
        .outerjoin(REVOCATIONS, REVOCATIONS.c.jti == CONSENTS.c.jti)
    )


def _covering(build: Builder) -> Any:
    """Say in SQL what :func:`~fedcredit.governance.consent_rules.judge` says of one consent."""
    asked = build.listed("asked", digest=bytes, subject=str)
    c, now = CONSENTS.c, sa.bindparam("now", type_=sa.Double)
    find = sa.func.strpos if build.kind == "postgresql" else sa.func.instr
    # Not a join: the database could begin with the institution's consents, all of them.
    covering = (
        sa.select(c.id)
        .where(
            c.digest == asked.c.digest,
            c.subject == asked.c.subject,
            c.institution == sa.bindparam("institution", type_=sa.Text),
            sa.exists().where(KEYS.c.kid == c.kid, KEYS.c.status != "revoked"),
            ~sa.exists().where(REVOCATIONS.c.jti == c.jti),
            c.expires + CLOCK_SKEW > now,
            c.not_before - CLOCK_SKEW <= now,
            c.purpose == sa.bindparam("purpose", type_=sa.Text),
            find(c.scope, sa.bindparam("needed", type_=sa.Text)) > 0,
            find(c.scope, sa.bindparam("needed_too", type_=sa.Text)) > 0,
            c.used < c.max_uses,
        )
        .correlate(asked)
        .scalar_subquery()
    )
    return sa.select(covering).select_from(asked)


STANDINGS, COVERING = Statement(_standings), Statement(_covering)
IDS: Final = Statement(
    lambda build: sa.select(CONSENTS.c.id).where(build.among(CONSENTS.c.jti, "asked", str))
)
USE: Final = Statement(
    lambda build: (
        sa.update(CONSENTS)
        .where(build.among(CONSENTS.c.id, "asked", int), CONSENTS.c.used < CONSENTS.c.max_uses)
        .values(used=CONSENTS.c.used + 1)
    )
)
WITHDRAWN: Final = Statement(
    lambda build: sa.select(REVOCATIONS.c.jti, REVOCATIONS.c.time).where(
        build.among(REVOCATIONS.c.jti, "asked", str)
    )
)
GIVE_BACK: Final = Statement(
    lambda build: (
        sa.update(CONSENTS)
        .where(build.among(CONSENTS.c.digest, "asked", bytes), CONSENTS.c.used > 0)
        .values(used=CONSENTS.c.used - 1)
    )
)
_THIS_REQUEST: Final = sa.and_(
    REQUESTS.c.institution == sa.bindparam("institution", type_=sa.Text),
    REQUESTS.c.request == sa.bindparam("request", type_=sa.LargeBinary),
)
CAME_BEFORE: Final = Statement(lambda _: sa.select(REQUESTS.c.time).where(_THIS_REQUEST))
DROP_REQUEST: Final = Statement(lambda _: sa.delete(REQUESTS).where(_THIS_REQUEST))
ADD_REQUEST: Final = insertion(REQUESTS)
ADD_CONSENT: Final = insertion(CONSENTS)
ADD_TOKEN: Final = insertion(CONSENT_TOKENS)
