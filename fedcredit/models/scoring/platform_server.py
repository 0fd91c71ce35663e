"""The platform's process that answers institutions, beside the one that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedcredit.errors import PolicyError
from fedcredit.governance.gate import Gate
from fedcredit.models.alignment import LocalTable
from fedcredit.models.columns import to_pandas
from fedcredit.models.scoring.desk import Desk
from fedcredit.models.scoring.server import serve_session
from fedcredit.models.scoring.subjects import SubjectIndex
from fedcredit.models.store import Store
from fedcredit.wire import Identity, Peers

__all__ = ["PlatformServer"]


class PlatformServer:
    """Serves institutions at the platform; implements :class:`.backend.ServiceServer`.

    Parameters
    ----------
    party : str
    table : pandas.DataFrame or Arrow table
        The platform's own table; its label column is not looked at.
    store : Store
        Where models were deployed.
    gate : Gate
    identity : Identity
        Signs the statements.
    id_column, id_kind : str
    as_of : str
        Date of the data, ISO 8601.
    categorical : sequence of str

    Raises
    ------
    InputError
        The table cannot be read, or holds no usable id.
    """

    def __init__(
        self,
        party: str,
        table: Any,
        *,
        store: Store,
        gate: Gate,
        identity: Identity,
        id_column: str = "uscc",
        id_kind: str = "uscc",
        as_of: str = "",
        categorical: Sequence[str] = (),
    ) -> None:
        self.party = party
        local = LocalTable(to_pandas(table, party=party), party=party)
        local.known(categorical, "categorical columns")
        self.desk = Desk(
            party, store, SubjectIndex(local, id_column, id_kind), gate, identity, as_of=as_of
        )

    def __repr__(self) -> str:
        return f"PlatformServer({self.party!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a server holds its party's table and keys and is never pickled")

    async def serve(self, peers: Peers, coordinator: str) -> str:
        """Refuse jobs: the platform runs them, it does not serve them."""
        raise PolicyError(
            "the platform serves institutions only.", party=self.party, step="open a session"
        )

    async def serve_institution(self, peers: Peers, institution: str) -> str:
        """Serve an institution until it leaves; the role of one session."""
        await serve_session(self.desk, peers, institution)
