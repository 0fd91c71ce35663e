"""``fedcredit status``: who is connected, what runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from fedcredit.cli.output import human_bytes, json_option, print_json, print_table
from fedcredit.node.config import NodeConfig, load_config
from fedcredit.node.connection import hub_status
from fedcredit.node.party import STATUS_FILE

__all__ = ["status"]


@click.command(
    epilog="""\b
Example:
  fedcredit status tax.toml --json

Asks the hub who is connected and which sessions it carries. With a provider's file it also lists
the jobs of that provider's process on this machine."""
)
@click.argument("config", type=click.Path(path_type=Path))
@json_option
def status(config: Path, as_json: bool) -> None:
    """Show the federation as the party of CONFIG sees it."""
    settings = load_config(config)
    found = hub_status(settings.hub.uri, settings.load_tls(), settings.hub.name)
    jobs = _jobs(settings)
    if as_json:
        print_json({"hub": found, "jobs": jobs})
        return
    click.echo(f"hub {settings.hub.uri}, up {found['uptime_seconds']:.0f} s")
    rows = []
    for name, streams in found["parties"].items():
        rows += [
            (
                name,
                "serves" if stream["serving"] else "coordinates",
                f"{stream['connected_seconds']:.0f} s",
                human_bytes(stream["bytes_in"]),
                human_bytes(stream["bytes_out"]),
            )
            for stream in streams
        ] or [(name, "away", "", "", "")]
    print_table("Parties", ["party", "state", "connected", "sent", "received"], rows)
    if found["sessions"]:
        print_table(
            "Sessions of the last ten minutes",
            ["session", "parties", "bytes", "idle"],
            [
                (
                    s["id"],
                    ", ".join(s["parties"]),
                    human_bytes(s["bytes"]),
                    f"{s['idle_seconds']} s",
                )
                for s in found["sessions"]
            ],
        )
    if jobs:
        print_table(
            f"Jobs of {settings.party}",
            ["job", "for", "state", "started", "bytes", "outcome"],
            [
                (
                    job["name"],
                    job["coordinator"],
                    job["state"],
                    time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job["started"])),
                    human_bytes(job["bytes"]),
                    job["outcome"],
                )
                for job in jobs
            ],
        )


def _jobs(config: NodeConfig) -> list[dict[str, Any]]:
    try:
        jobs: list[dict[str, Any]] = json.loads((config.storage / STATUS_FILE).read_bytes())["jobs"]
        return jobs
    except (OSError, ValueError, KeyError):
        return []
