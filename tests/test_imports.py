"""The import rules and the diagram of docs/internals/architecture.md: every module is read, none is imported.

A new file is covered by the folder it lies in.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

VOCABULARY = {"errors", "geometry", "blocks", "tables", "stage"}
STAGE_ROOMS = {"affinities", "fragments", "edges", "agglomeration", "segmentation"}
ALGORITHM_ROOMS = STAGE_ROOMS | {"networks"}
NOT_ALGORITHMS = {"stage.py", "partition_stage.py", "lookup_stage.py", "card.py", "bundle.py", "__init__.py"}
NOT_FOR_ALGORITHMS = (
    "zarr", "daisy", "dask", "h5py", "pyarrow", "yaml", "neuroseg.configuration", "neuroseg.storage"
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """`file` (relative to the repository) imports `name` on `line`."""

    file: str
    line: int
    name: str

    @property
    def room(self) -> str:
        """The folder under neuroseg/ ("" for its own files and for what lies elsewhere)."""
        parts = self.file.split("/")
        return parts[1] if parts[0] == "neuroseg" and len(parts) > 2 else ""

    def is_of(self, *modules: str) -> bool:
        """Whether the import is of one of these modules or of something below one."""
        return any(self.name == module or self.name.startswith(module + ".") for module in modules)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def imports_in(source: str, file: str) -> Iterator[Import]:
    """Every import in `source`, at the top or inside functions, by the full name of what it fetches."""
    package = file.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(file, node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield Import(file, node.lineno, node.args[0].value)


def all_imports() -> list[Import]:
    """The imports of every module of the package and its workers."""
    paths = [path for folder in ("neuroseg", "workers") for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    assert len(paths) > 20, f"the package is not where this test looks for it: {REPOSITORY}"
    return [
        found
        for path in paths
        for found in imports_in(path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix())
    ]


def vocabulary_reaches_out(found: Import) -> bool:
    """errors, geometry, blocks, tables and stage import numpy, funlib.geometry, the standard library and themselves."""
    is_vocabulary = found.file in {f"neuroseg/{name}.py" for name in VOCABULARY}
    allowed = found.is_of("numpy", "funlib.geometry", *(f"neuroseg.{name}" for name in VOCABULARY))
    return is_vocabulary and not allowed and found.name.split(".")[0] not in sys.stdlib_module_names


def algorithm_reads_or_writes(found: Import) -> bool:
    """Algorithm files never import storage formats, executors or configuration."""
    is_algorithm = found.room in ALGORITHM_ROOMS and Path(found.file).name not in NOT_ALGORITHMS
    return is_algorithm and found.is_of(*NOT_FOR_ALGORITHMS)


def stage_room_imports_another(found: Import) -> bool:
    """Stage rooms meet through stored artifacts; only affinities imports networks."""
    if found.room not in STAGE_ROOMS:
        return False
    closed = (STAGE_ROOMS | {"networks"}) - {found.room}
    if found.room == "affinities":
        closed.discard("networks")
    return found.is_of(*(f"neuroseg.{room}" for room in closed))


def top_is_imported(found: Import) -> bool:
    """Nothing imports the command line or the workers; the Python functions are imported by commands alone."""
    if not found.file.startswith("neuroseg/") or found.file in ("neuroseg/__main__.py", "neuroseg/__init__.py"):
        return False
    below = {"cli": (), "api": ("neuroseg.cli",)}.get(found.room, ("neuroseg.cli", "neuroseg.api"))
    return found.is_of("neuroseg.workers", "workers", *below)


def execution_knows_a_stage(found: Import) -> bool:
    """Execution knows the stage contract, never a stage or a plan."""
    return found.room == "execution" and found.is_of("neuroseg.runs", *(f"neuroseg.{room}" for room in STAGE_ROOMS))


def storage_knows_who_uses_it(found: Import) -> bool:
    """storage imports the vocabulary and itself; volumes also storage: they know nothing of stages, plans and runs."""
    allowed = {"storage": ("storage",), "volumes": ("storage", "volumes")}.get(found.room)
    if allowed is None or not found.is_of("neuroseg") or found.name == "neuroseg.__version__":
        return False
    words = (VOCABULARY - {"stage"}) | {"configuration"}
    return not found.is_of(*(f"neuroseg.{name}" for name in (*allowed, *words)))


def suites_are_imported(found: Import) -> bool:
    """Only tests import the suites, and only the suites import pytest: an installation may lack it."""
    return found.room != "testing" and found.is_of("neuroseg.testing", "pytest")


RULES = [
    vocabulary_reaches_out,
    algorithm_reads_or_writes,
    stage_room_imports_another,
    top_is_imported,
    execution_knows_a_stage,
    storage_knows_who_uses_it,
    suites_are_imported,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module_breaks_the_import_rules(rule: Callable[[Import], bool]) -> None:
    broken = [str(found) for found in all_imports() if rule(found)]
    assert not broken, "\n".join([f"{rule.__doc__} But:", *broken])


@pytest.mark.parametrize("engine", ["daisy", "dask"])
def test_each_engine_is_imported_in_one_file(engine: str) -> None:
    files = sorted({found.file for found in all_imports() if found.is_of(engine)})
    assert len(files) <= 1, f"{engine} is to be imported in one file, found it in {', '.join(files)}"


BREACHES = [
    (vocabulary_reaches_out, "neuroseg/geometry.py", "import scipy.ndimage"),
    (vocabulary_reaches_out, "neuroseg/tables.py", "from neuroseg.storage import files"),
    (vocabulary_reaches_out, "neuroseg/stage.py", "from neuroseg import configuration"),
    (vocabulary_reaches_out, "neuroseg/blocks.py", "from . import pipeline"),
    (algorithm_reads_or_writes, "neuroseg/edges/new.py", "def f():\n    import zarr.storage"),
    (algorithm_reads_or_writes, "neuroseg/networks/deep/new.py", "from neuroseg.configuration import read_yaml"),
    (algorithm_reads_or_writes, "neuroseg/fragments/new.py", "from ..storage.files import publish"),
    (algorithm_reads_or_writes, "neuroseg/segmentation/new.py", "importlib.import_module('h5py')"),
    (stage_room_imports_another, "neuroseg/edges/stage.py", "from neuroseg import fragments"),
    (stage_room_imports_another, "neuroseg/segmentation/stage.py", "from neuroseg.agglomeration.tree import x"),
    (stage_room_imports_another, "neuroseg/fragments/new.py", "import neuroseg.networks.card"),
    (top_is_imported, "neuroseg/runs/pipeline.py", "from neuroseg.cli import main"),
    (top_is_imported, "neuroseg/execution/new.py", "import neuroseg.workers.slurm"),
    (top_is_imported, "neuroseg/runs/new.py", "from neuroseg.api import Run"),
    (execution_knows_a_stage, "neuroseg/execution/new.py", "from neuroseg.fragments.stage import FragmentsStage"),
    (execution_knows_a_stage, "neuroseg/execution/new.py", "def f():\n    from neuroseg.runs.plan import read_plan"),
    (storage_knows_who_uses_it, "neuroseg/storage/new.py", "from neuroseg.volumes.volume import Volume"),
    (storage_knows_who_uses_it, "neuroseg/volumes/new.py", "from neuroseg.runs import plan"),
    (storage_knows_who_uses_it, "neuroseg/volumes/new.py", "from neuroseg.stage import Stage"),
    (suites_are_imported, "neuroseg/checks/new.py", "from neuroseg.testing.stages import StageTests"),
    (suites_are_imported, "workers/new.py", "from neuroseg import testing"),
    (suites_are_imported, "neuroseg/runs/new.py", "def f():\n    import pytest"),
]


@pytest.mark.parametrize(("rule", "file", "source"), BREACHES)
def test_each_rule_sees_a_breach(rule: Callable[[Import], bool], file: str, source: str) -> None:
    assert any(rule(found) for found in imports_in(source, file))


ALLOWED = [
    ("neuroseg/testing/new.py", "import pytest\nfrom neuroseg.testing import footprint\nimport neuroseg.runs"),
    ("neuroseg/geometry.py", "import re\nimport numpy as np\nfrom funlib.geometry import Roi\nfrom . import errors"),
    ("neuroseg/edges/stage.py", "from neuroseg.storage import files\nfrom neuroseg.edges import nodes\nimport zarr"),
    ("neuroseg/affinities/new.py", "from neuroseg.networks.bundle import Bundle\nimport torch"),
    ("neuroseg/networks/card.py", "import yaml"),
    ("neuroseg/cli/main.py", "from neuroseg.cli import options\nfrom neuroseg.edges import stage"),
    ("neuroseg/execution/daisy.py", "import daisy\nfrom neuroseg.stage import Stage"),
    ("neuroseg/volumes/new.py", "from neuroseg.storage.arrays import open_array\nfrom neuroseg.geometry import Voxels"),
    ("neuroseg/evaluation/sweep.py", "from neuroseg.agglomeration.partition import segment_lookup"),
    ("workers/slurm.py", "from neuroseg.cli import main"),
]


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_the_rules_let_through_what_the_design_allows(file: str, source: str) -> None:
    broken = [(rule.__name__, str(found)) for found in imports_in(source, file) for rule in RULES if rule(found)]
    assert not broken


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    paths = sorted((REPOSITORY / "neuroseg").rglob("*.py"))
    names = (".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def shared_names(names: Iterable[str]) -> list[list[str]]:
    """The modules of one name in different rooms; a room's stage and settings may share theirs.

    Commands are called as what they do, suites as what they test.
    """
    by_name: dict[str, list[str]] = {}
    for name in names:
        if not name.startswith(("neuroseg.cli.", "neuroseg.testing.")):
            by_name.setdefault(name.rpartition(".")[2], []).append(name)
    return [found for word, found in by_name.items() if len(found) > 1 and word not in ("stage", "settings")]


def test_no_two_modules_share_a_name() -> None:
    assert shared_names(modules()) == []
    assert shared_names(["neuroseg.a.places", "neuroseg.b.places", "neuroseg.a.stage", "neuroseg.b.stage"]) == [
        ["neuroseg.a.places", "neuroseg.b.places"]
    ]


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """What a node of a graph leads to, itself only through others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), set()) - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules that import themselves through others."""
    return [name for name in graph if name in reached(graph, name)]


def test_no_module_imports_itself_through_others() -> None:
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for found in all_imports():
        name = found.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        # The package itself gives its version to all, and imports nothing until it is asked to run.
        if name in known and name != "neuroseg":
            graph[name] |= {found.name, found.name.rpartition(".")[0]} & (known.keys() - {"neuroseg"})
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def folder_imports(imports: Iterable[Import], shared: str) -> dict[str, set[str]]:
    """Which folder imports which; `shared` stands for the files directly in neuroseg/."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        folder = found.file.split("/")[0] if not found.file.startswith("neuroseg/") else found.room or shared
        package, _, rest = found.name.partition(".")
        if package != "neuroseg" or rest in ("", "__version__") or Path(found.file).stem in ("__main__", "__init__"):
            continue
        named = rest.split(".")[0]
        named = named if (REPOSITORY / "neuroseg" / named).is_dir() else shared
        if named != folder:
            graph.setdefault(folder, set()).add(named)
    return graph


def without_detours(graph: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """The arrows of a graph without circles that no other way replaces."""
    return {
        (start, end)
        for start, ends in graph.items()
        for end in ends
        if not any(end in reached(graph, other) for other in ends - {end})
    }


def test_the_diagram_shows_the_imports() -> None:
    text = (REPOSITORY / "docs/internals/architecture.md").read_text(encoding="utf-8")
    diagram = text.partition("```mermaid\n")[2].partition("```")[0]
    arrows = re.findall(r"^    (\w+) --> (\w+)$", diagram, re.MULTILINE)
    assert sorted(arrows) == sorted(without_detours(folder_imports(all_imports(), "shared")))


def test_an_arrow_that_another_way_replaces_is_left_out() -> None:
    assert without_detours({"a": {"b", "c"}, "b": {"c"}}) == {("a", "b"), ("b", "c")}


def test_every_module_is_short() -> None:
    lengths = sorted((len(path.read_text().splitlines()), name) for name, path in modules().items())
    assert lengths[-1][0] <= 350, lengths[-1]
    assert lengths[len(lengths) // 2][0] < 130
