"""Rules of the house: imports go down, nothing is pickled, files are short, names are pinned."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedcredit

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fedcredit"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path
    for folder in ("fedcredit", "tests", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MAX_LINES = 500

# What `import fedcredit` offers. A name enters or leaves here on purpose or not at all.
PUBLIC_NAMES = [
    "Catalog",
    "Enterprise",
    "Institution",
    "FeatureSelector",
    "Federation",
    "ProviderPolicy",
    "FederatedFrame",
    "VerticalBinner",
    "VerticalGBDTClassifier",
    "VerticalGBDTRegressor",
    "VerticalLogisticRegression",
    "VerticalScorecard",
    "__version__",
    "connect",
    "datasets",
    "errors",
    "simulate",
]

# A module imports from its own floor or from below. `fedcredit/__init__.py` stands on the roof.
FLOORS = {
    "errors": 0,
    "uscc": 0,
    "crypto": 0,
    "stats": 0,
    "wire": 1,
    "datasets": 1,
    "protocols": 2,
    "governance": 2,
    "models": 3,
    "horizontal": 3,
    "node": 4,
    "cli": 5,
}
ROOF = max(FLOORS.values()) + 1
# Tighter than the floors: these import nothing of ours but what stands here, and themselves.
ONLY = {"errors": set(), "uscc": {"errors"}, "datasets": {"errors", "uscc"}}
# Pure mathematics knows no frames, clocks, sockets or event loops.
IMPURE = {"asyncio", "datetime", "http", "pandas", "requests", "socket", "sqlite3", "ssl", "time"}
PICKLING = {"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
PICKLING_CALLS = {"joblib.dump", "joblib.load"}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def dotted(path: Path) -> list[str]:
    """Name of the package in which a module's relative imports start, in parts."""
    return list(path.relative_to(ROOT).with_suffix("").parts[:-1])


def imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """Every imported name in full, wherever the import stands: ``a.b`` or ``a.b.name``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str | None:
    """Top-level part of the package that an import reaches; "" for the package itself."""
    parts = name.split(".")
    if parts[0] != "fedcredit":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def upward_imports(tree: ast.Module, part: str, package: list[str]) -> list[str]:
    """Imports that go up a floor, or outside what `ONLY` grants; the roof is allowed everything."""
    if not part:
        return []
    found = []
    for name in imports(tree, package):
        target = part_of(name)
        if target in (None, part) or name == "fedcredit.__version__":
            continue
        too_high = (FLOORS[target] if target else ROOF) > FLOORS[part]
        if too_high or (part in ONLY and target not in ONLY[part]):
            found.append(name)
    return found


def pickling(tree: ast.Module) -> list[str]:
    """Imports and calls that write or read pickles."""
    found = [name for name in imports(tree, []) if name.split(".")[0] in PICKLING]
    found += [name for name in imports(tree, []) if name in PICKLING_CALLS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in PICKLING_CALLS or node.attr in ("read_pickle", "to_pickle"):
                found.append(name)
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and not (isinstance(node.value, ast.Constant) and node.value.value is False)
        ):
            found.append("allow_pickle")
    return found


def sleeping(tree: ast.Module) -> list[str]:
    """Uses of ``time.sleep``."""
    imported = [name for name in imports(tree, []) if name == "time.sleep"]
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return imported + [name for name in attributes if name == "time.sleep"]


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of_path(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_imports_go_down(path):
    part = part_of_path(path)
    assert not part or part in FLOORS, f"give {part} a floor"
    assert upward_imports(parse(path), part, dotted(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_nothing_is_pickled_and_nothing_sleeps(path):
    tree = parse(path)
    assert pickling(tree) == []
    assert sleeping(tree) == []


@pytest.mark.parametrize(
    "path", [path for path in MODULES if part_of_path(path) in ("crypto", "stats")], ids=identify
)
def test_mathematics_is_pure(path):
    assert IMPURE.isdisjoint(name.split(".")[0] for name in imports(parse(path), dotted(path)))


def test_every_folder_of_the_package_is_a_package():
    folders = {path.parent for path in MODULES}
    assert [identify(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_files_are_short():
    lengths = {identify(path): len(path.read_bytes().splitlines()) for path in SOURCES}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_public_names():
    assert sorted(fedcredit.__all__) == sorted(PUBLIC_NAMES)
    assert [name for name in PUBLIC_NAMES if not hasattr(fedcredit, name)] == []


@pytest.mark.parametrize(
    ("part", "package", "code", "found"),
    [
        ("stats", "fedcredit.stats", "from fedcredit.wire import codec", ["fedcredit.wire.codec"]),
        ("stats", "fedcredit.stats", "from fedcredit import models", ["fedcredit.models"]),
        ("stats", "fedcredit.stats", "from ..node.hub import Hub", ["fedcredit.node.hub.Hub"]),
        ("stats", "fedcredit.stats", "from . import x\nfrom .y import z", []),
        ("node", "fedcredit.node", "import fedcredit", ["fedcredit"]),
        ("node", "fedcredit.node", "from fedcredit import simulate", ["fedcredit.simulate"]),
        ("node", "fedcredit.node", "def f():\n  import fedcredit.cli.main", ["fedcredit.cli.main"]),
        ("node", "fedcredit.node", "from fedcredit import __version__, errors, wire", []),
        ("datasets", "fedcredit.datasets", "from fedcredit import stats", ["fedcredit.stats"]),
        ("datasets", "fedcredit.datasets", "from fedcredit.errors import InputError", []),
        ("uscc", "fedcredit", "from fedcredit.crypto import prg", ["fedcredit.crypto.prg"]),
        ("crypto", "fedcredit.crypto", "import numpy, fedcreditor", []),
    ],
)
def test_an_upward_import_is_seen(part, package, code, found):
    assert upward_imports(ast.parse(code), part, package.split(".")) == found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import joblib\njoblib.dump(x, 'f')",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "frame.to_pickle('f')",
    ],
)
def test_a_pickle_is_seen(code):
    assert pickling(ast.parse(code))
    assert not pickling(ast.parse("import joblib\nnp.load(f, allow_pickle=False)\njoblib.Memory"))


@pytest.mark.parametrize("code", ["import time\ntime.sleep(1)", "from time import sleep"])
def test_a_sleep_is_seen(code):
    assert sleeping(ast.parse(code))
    assert not sleeping(ast.parse("import time\ntime.monotonic()"))
