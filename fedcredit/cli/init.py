"""``fedcredit init``: write a federation directory that is ready to run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pyarrow as pa

from fedcredit.cli.output import json_option, print_json
from fedcredit.errors import ConfigError, InputError
from fedcredit.node.pki import make_federation
from fedcredit.node.tables import read_table

__all__ = ["init", "write_federation"]

_TEMPLATE = """\
party = {party}
role = {role}

[hub]
uri = {uri}
name = {platform}
{hub}
[tls]
certificate = "tls.pem"
key = "tls.key"
ca = "ca.pem"

[signing]
certificate = "signing.pem"
key = "signing.key"

{data}{catalog}{policy}{service}[storage]
directory = "state"
"""

_DATA = """\
[data]
path = {path}
id_column = {id_column}
id_kind = {id_kind}
{more}
"""

#: Name of a party's field catalog in its directory.
_CATALOG_FILE = "catalog.toml"
_CATALOG = f"""\
[catalog]
path = "{_CATALOG_FILE}"

"""

_POLICY = """\
[policy]
coordinators = [{platform}]
# Limits that this party's own engine enforces; all are optional.
min_intersection = 50
min_bin_count = 10
release_feature_names = false

"""

_SERVICE = """\
[service]
institutions = {institutions}
# as_of = 2026-10-31  # the date of the data

"""


def _named(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not (name and separator and path) or name in found:
            raise click.BadParameter(f"{value!r} is not NAME=PATH, each name once")
        found[name] = Path(path)
    return found


@click.command(
    epilog="""\b
Example:
  fedcredit init pilot --platform loans.parquet --label default \\
      --provider tax=tax.parquet --provider social=social.csv --institution bank
  fedcredit hub start pilot/platform/platform.toml

Every party's directory holds its certificates, keys and configuration. The certificates are for
tests and pilots; a production federation uses those of its own CA."""
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--platform",
    "platform_data",
    required=True,
    type=click.Path(path_type=Path),
    help="The label holder's table.",
)
@click.option("--platform-name", default="platform", show_default=True)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    required=True,
    callback=_named,
    metavar="NAME=PATH",
    help="A data provider and its table. Repeat.",
)
@click.option(
    "--institution",
    "institutions",
    multiple=True,
    metavar="NAME",
    help="Who may ask for scores and answers. Repeat.",
)
@click.option("--label", required=True, help="The label's column in the platform's table.")
@click.option("--id-column", default="uscc", show_default=True)
@click.option("--id-kind", default="uscc", show_default=True, type=click.Choice(["uscc", "text"]))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the hub will run.")
@click.option("--port", default=8815, show_default=True, type=click.IntRange(1, 65535))
@json_option
def init(
    directory: Path,
    platform_data: Path,
    platform_name: str,
    providers: dict[str, Path],
    institutions: tuple[str, ...],
    label: str,
    id_column: str,
    id_kind: str,
    host: str,
    port: int,
    as_json: bool,
) -> None:
    """Write certificates and configuration files for a federation into DIRECTORY."""
    if platform_name in providers:
        raise InputError(f"{platform_name} cannot be platform and provider.", step="init")
    written = write_federation(
        directory,
        platform=platform_name,
        tables={platform_name: platform_data, **providers},
        label=label,
        id_column=id_column,
        id_kind=id_kind,
        host=host,
        port=port,
        institutions=institutions,
    )
    if as_json:
        print_json({party: str(path) for party, path in written.items()})
        return
    click.echo(f"fedcredit hub start {written[platform_name]}")
    for party in providers:
        click.echo(f"fedcredit party start {written[party]}")
    if institutions:
        click.echo(f"fedcredit serve {written[platform_name]}")


def write_federation(
    directory: Path,
    *,
    platform: str,
    tables: Mapping[str, Path],
    label: str,
    id_column: str,
    id_kind: str,
    port: int,
    host: str = "127.0.0.1",
    categorical: Mapping[str, Sequence[str]] | None = None,
    institutions: Sequence[str] = (),
) -> dict[str, Path]:
    """Write certificates, keys, configuration files and draft catalogs of a federation.

    Parameters
    ----------
    directory : Path
        Gets one directory per party.
    platform : str
        Which of the parties in ``tables`` holds the label; all others are providers.
    tables : mapping of str to Path
        Every party's table.
    label, id_column, id_kind : str
    port, host
        Where the hub will run.
    categorical : mapping of str to sequence of str, optional
        Numeric columns that are categories; text columns are in any case.
    institutions : sequence of str
        Who may ask the platform and the providers for scores and answers; they need no table.

    Returns
    -------
    dict of str to Path
        Every party's configuration file.

    Raises
    ------
    InputError
        A table lacks the id column or the label, or an institution has another party's name.
    ConfigError
        A table cannot be read, or a file not be written.
    """
    names = [*tables, *institutions]
    if len(set(names)) != len(names):
        raise InputError("two parties have the same name.", step="init")
    uri = f"grpc+tls://{host}:{port}"
    providers = [party for party in tables if party != platform]
    catalogs = {
        party: _draft(
            path,
            party,
            id_column,
            (categorical or {}).get(party, ()),
            [label] if party == platform else [],
        )
        for party, path in tables.items()
    }
    texts = {
        party: _config(
            party,
            platform,
            uri,
            path,
            id_column,
            id_kind,
            label if party == platform else None,
            providers,
            (categorical or {}).get(party, ()),
            institutions,
        )
        for party, path in tables.items()
    }
    for party in institutions:
        texts[party] = _TEMPLATE.format(
            party=_toml(party),
            role=_toml("institution"),
            uri=_toml(uri),
            platform=_toml(platform),
            **dict.fromkeys(("hub", "data", "catalog", "policy", "service"), ""),
        )
    make_federation(directory, names, hosts=_hosts(host))
    written = {}
    for party, text in texts.items():
        written[party] = directory / party / f"{party}.toml"
        _write(written[party], text)
        if party in catalogs:
            _write(directory / party / _CATALOG_FILE, catalogs[party])
    return written


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}).") from None


def _draft(
    path: Path, party: str, key: str, categorical: Sequence[str], withheld: Sequence[str]
) -> str:
    from fedcredit.governance.catalog import Catalog

    table = read_table(path, text_columns=[key, *categorical], party=party).to_pandas()
    return Catalog.draft(table, provider=party, key=key, categorical=categorical, withheld=withheld)


def _hosts(host: str) -> list[str]:
    return ["localhost", "127.0.0.1", *([] if host in ("localhost", "127.0.0.1") else [host])]


def _config(
    party: str,
    platform: str,
    uri: str,
    path: Path,
    id_column: str,
    id_kind: str,
    label: str | None,
    providers: list[str],
    categorical: Sequence[str],
    institutions: Sequence[str],
) -> str:
    table = read_table(path, text_columns=[id_column], party=party)
    special = [id_column] if label is None else [id_column, label]
    for name in special:
        if name not in table.column_names:
            raise InputError(
                f"{path} has no column {name!r}.",
                party=party,
                step="init",
                fix="correct --id-column or --label",
            )
    texts = [
        field.name
        for field in table.schema
        if field.name not in special and (field.name in categorical or not _is_number(field.type))
    ]
    is_platform = label is not None
    data = [f"categorical = {_toml(texts)}"] if texts else []
    data += [f"label = {_toml(label)}"] if is_platform else []
    return _TEMPLATE.format(
        party=_toml(party),
        role=_toml("platform" if is_platform else "provider"),
        uri=_toml(uri),
        platform=_toml(platform),
        hub=f"parties = {_toml(providers)}\n" if is_platform else "",
        data=_DATA.format(
            path=_toml(str(path.resolve())),
            id_column=_toml(id_column),
            id_kind=_toml(id_kind),
            more="".join(f"{line}\n" for line in data),
        ),
        catalog=_CATALOG,
        policy="" if is_platform else _POLICY.format(platform=_toml(platform)),
        service=_SERVICE.format(institutions=_toml(list(institutions))) if institutions else "",
    )


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )


def _toml(value: str | list[str] | None) -> str:
    # Strings and lists of strings are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)
