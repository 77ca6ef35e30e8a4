"""Who may import whom, over the syntax tree of every module."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.support.graphs import REPOSITORY

ROOTS = (REPOSITORY / "client", REPOSITORY / "server")
MODULES = {
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
    for root in ROOTS
    for path in root.rglob("*.py")
}

_GRPC = ("grpc", "grpc_status", "google.rpc", "google.protobuf")
_CLICK = ("click", "numpy")
_VALUES = ("numpy", "negserve.errors", "negserve.types")
_PROTOCOL = (*_VALUES, "google.protobuf", "negserve.v1", "negserve._protocol")
#: Fields of messages are known to ``negserve._protocol``, and to what checks servers and clients.
_TRANSPORT = (*_VALUES, "google.protobuf", "grpc", "negserve._protocol", "negserve._transport")
_CALLS = (*_TRANSPORT, "negserve._graph", "negserve._calls")
_SAMPLING = (*_VALUES, "torch", "negserve.terminal", "negserve._calls", "negserve.sampling")
_DATA = (
    *_SAMPLING,
    "negserve._protocol.epoch_progress",
    "negserve._transport",
    "negserve._local",
    "negserve._sync",
    "negserve.data",
)
_EVALUATION = (*_VALUES, "negserve.terminal", "negserve.evaluation")
_ENGINE = (
    "numpy",
    "numba",
    "polars",
    "negserve.errors",
    "negserve.types",
    "negserve.terminal.extras",
    "negserve_server.errors",
    "negserve_server.jit",
    "negserve_server.tables",
    "negserve_server.triple_columns",
)
_ACCESS = ("negserve.types", "negserve_server.errors", "negserve_server.logs")
_ADMISSION = (
    *_GRPC,
    "negserve_server.access",
    "negserve_server.logs",
    "negserve_server.metrics",
    "numpy",
    "negserve.errors",
    "negserve.types",
    "negserve_server.errors",
    "negserve_server.process.malloc",
    "negserve_server.config.limits",
)
_PUBLISHING = (
    *_ADMISSION,
    "polars",
    "negserve.terminal",
    "negserve_server.index",
    "negserve_server.sampling",
    "negserve_server.graph",
    "negserve_server.config.limits",
    "negserve_server.admission",
)
#: What the modules below a name may import besides the standard library; the longest name
#: that fits decides. A package may always import itself.
ALLOWED: dict[str, tuple[str, ...]] = {
    "negserve.v1": ("grpc", "google.protobuf"),
    "negserve.errors": (),
    "negserve.terminal": ("negserve.errors",),
    "negserve.terminal.command": ("negserve.terminal", "click"),
    "negserve.terminal.labelled_triples": ("negserve.terminal", "negserve.types", *_CLICK),
    "negserve.terminal.target_option": _CLICK,
    "negserve.types": _VALUES,
    "negserve._graph": _VALUES,
    "negserve._protocol": _PROTOCOL,
    "negserve._transport": _TRANSPORT,
    "negserve._transport.tracing": ("grpc", "opentelemetry"),
    "negserve._transport.statuses": (*_TRANSPORT, *_GRPC, "negserve.terminal"),
    "negserve._transport.channels": (*_TRANSPORT, "negserve.v1"),
    "negserve._snapshots": (*_VALUES, "negserve._protocol.snapshot_answers"),
    "negserve._local": (*_PROTOCOL, "negserve._protocol"),
    "negserve._local.engine": (*_PROTOCOL, "negserve.terminal.extras", "negserve_server"),
    "negserve._calls": (*_CALLS, "negserve._snapshots", "negserve._local"),
    "negserve._sync": (*_CALLS, "negserve._local"),
    "negserve._sync.transport": (*_CALLS, "negserve._sync", "negserve.v1.sampler_pb2_grpc"),
    "negserve.aio": (*_CALLS, "negserve._local"),
    "negserve.sampling": _SAMPLING,
    # Where numba is installed.
    "negserve.sampling.compiled_expansion": (*_VALUES, "numba"),
    "negserve.data": _DATA,
    # What reads reports and candidates needs no torch.
    "negserve.evaluation": _EVALUATION,
    "negserve.evaluation.ranking": (*_EVALUATION, "torch"),
    "negserve.evaluation.ranking.progress_bar": ("rich",),
    "negserve.evaluation.ranking.rank_group": (
        *_EVALUATION,
        "torch",
        "negserve._calls.process_rank",
    ),
    "negserve.evaluation.reports.evaluation_report": (*_EVALUATION, "matplotlib"),
    "negserve.evaluation.candidate_sets.candidate_files": (*_EVALUATION, "polars"),
    "negserve.integrations": (*_DATA, "negserve._graph"),
    "negserve.integrations.torch_geometric": ("negserve", "torch", "torch_geometric"),
    "negserve.integrations.torchkge": ("negserve", "torch", "torchkge"),
    "negserve.integrations.pykeen": ("negserve", "numpy", "torch", "pykeen", "wrapt"),
    "negserve.conformance": (*_CALLS, *_GRPC, "negserve.v1", "negserve._sync"),
    "negserve._admin": (*_VALUES, "google.protobuf", "negserve.v1"),
    "negserve._admin.admin_client": (*_TRANSPORT, "negserve.v1"),
    "negserve._admin.status_tables": (*_VALUES, "negserve.v1", "negserve._admin", "rich"),
    "negserve.cli": ("negserve", "numpy", "click"),
    "negserve.cli.top": ("negserve", "click", "rich"),
    "negserve.cli.bench": ("negserve", "numpy", "click", "rich"),
    "negserve": ("negserve",),
    "negserve_server.errors": ("negserve.errors", "negserve.types"),
    "negserve_server.jit": ("numpy", "numba", "llvmlite"),
    "negserve_server.logs": (
        "negserve.errors",
        "negserve.terminal.nearest",
        "negserve.types.checks.text",
        "negserve_server.errors",
    ),
    "negserve_server.process": (
        "rich",
        "click",
        "negserve_server.logs",
        "negserve.terminal",
        "negserve.types.checks.text",
        "negserve_server.errors",
        "negserve_server.jit",
    ),
    "negserve_server.tables": ("negserve_server.errors", "negserve_server.process.process_limits"),
    "negserve_server.triple_columns": _VALUES,
    "negserve_server.index": _ENGINE,
    "negserve_server.sampling": (*_ENGINE, "negserve_server.index"),
    "negserve_server.graph": (*_ENGINE, "negserve_server.index", "negserve_server.sampling"),
    "negserve_server.graph.readers.formats.compression": (
        "compression",
        "backports",
        "negserve_server.errors",
    ),
    "negserve_server.graph.readers.formats.rdf": (
        "polars",
        "pyoxigraph",
        "negserve.terminal.extras",
        "negserve_server.errors",
        "negserve_server.graph.readers",
    ),
    "negserve_server.report": (
        *_ENGINE,
        "negserve_server.index",
        "negserve_server.sampling",
        "negserve_server.graph",
    ),
    "negserve_server.config": (
        "negserve_server.errors",
        "negserve_server.tables",
        "negserve.types",
    ),
    "negserve_server.config.byte_size": ("click",),
    "negserve_server.config.command_line": ("click", "negserve_server.config"),
    "negserve_server.listening": (
        "grpc",
        "negserve_server.access.watched_files",
        "negserve.types",
        "negserve_server.errors",
        "negserve_server.config.limits",
    ),
    "negserve_server.access": _ACCESS,
    "negserve_server.metrics": ("numpy", "prometheus_client"),
    "negserve_server.admission": _ADMISSION,
    "negserve_server.publishing": _PUBLISHING,
    "negserve_server.administration": (
        *_PUBLISHING,
        "negserve_server.process.orders",
        "negserve_server.publishing",
    ),
    "negserve_server.pages": (
        "jinja2",
        "numpy",
        "negserve.errors",
        "negserve.types",
        "negserve.terminal.nearest",
        "negserve_server.errors",
        "negserve_server.graph",
        "negserve_server.sampling",
        "negserve_server.publishing.datasets",
        "negserve_server.access.message_times",
        "negserve_server.administration",
        "negserve_server.metrics.pages",
    ),
    "negserve_server.sizing": (),
    "negserve_server.service": (
        *_PUBLISHING,
        "grpc_health",
        "grpc_reflection",
        "negserve.v1",
        "negserve_server.publishing",
        "negserve_server.administration",
    ),
    "negserve_server.commands": (
        "click",
        "negserve.errors",
        "negserve.terminal",
        "negserve.types",
        "negserve_server",
    ),
    "negserve_server.commands.admin": (
        "google.protobuf",
        "click",
        "rich",
        "negserve._admin",
        "negserve.errors",
        "negserve.types.checks.text",
        "negserve.v1",
        "negserve_server.process.command",
    ),
    "negserve_server": (
        *_GRPC,
        "click",
        "grpc_health",
        "numpy",
        "rich",
        "negserve.terminal",
        "negserve.errors",
        "negserve.types",
        "negserve._transport.targets",
        "negserve_server",
    ),
    "negserve_server.serving.tracing": (
        "grpc",
        "opentelemetry",
        "negserve.terminal.extras",
        "negserve_server.logs",
    ),
}

#: Arrows that go up, and have to go: none may be added, and what is mended leaves this list.
UPWARD: dict[str, set[str]] = {}


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_are_allowed():
    forbidden = []
    for module, path in sorted(MODULES.items()):
        rule = max((name for name in ALLOWED if is_below(module, name)), key=len)
        upward = UPWARD.get(module, set())
        found = imports(path)
        forbidden += [
            f"{module} imports {name}; {rule} may import {ALLOWED[rule]}"
            for name in found
            if name.split(".")[0] not in sys.stdlib_module_names
            and not any(is_below(name, package) for package in (*ALLOWED[rule], rule, *upward))
        ]
        for arrow in upward:
            assert any(is_below(name, arrow) for name in found), f"{module}: {arrow} is mended"
    assert not forbidden


def test_the_client_imports_the_server_in_one_module_and_there_when_it_computes():
    importing = {
        module
        for module, path in MODULES.items()
        if is_below(module, "negserve")
        and any(is_below(name, "negserve_server") for name in imports(path))
    }
    assert importing == {"negserve._local.engine"}
    tree = ast.parse(MODULES["negserve._local.engine"].read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "negserve_server" not in ast.unparse(ast.Module(at_once, []))


def test_each_room_says_what_lives_there():
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module != "negserve.v1":
            assert ast.get_docstring(ast.parse(path.read_text())), module


def test_only_what_users_name_lies_flat_in_the_client():
    flat = {path.stem for path in (REPOSITORY / "client" / "negserve").glob("*.py")}
    assert flat == {"__init__", "errors"}


def test_no_package_in_the_folders_themselves():
    for folder in ("proto", "client", "server"):
        assert not (REPOSITORY / folder / "__init__.py").exists()
