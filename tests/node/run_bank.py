"""An institution as a process of its own: ``run_bank.py DIR URI MEMBER...``; asks once, stays."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fedcredit.node.certs import load_signing, load_tls
from fedcredit.node.conversation import InstitutionConnection
from tests.node.toy import asking


def main() -> None:
    directory, uri, members = Path(sys.argv[1]) / "bank", sys.argv[2], sys.argv[3:]
    with InstitutionConnection(
        load_signing(
            "bank", directory / "signing.pem", directory / "signing.key", directory / "ca.pem"
        ),
        load_tls("bank", directory / "tls.pem", directory / "tls.key", directory / "ca.pem"),
        uri,
    ) as connection:
        print(connection.open(members).run(asking(1)), flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
