"""Who may import whom, over the syntax tree of every module."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.graphs import REPOSITORY

ROOTS = (REPOSITORY / "client", REPOSITORY / "server")
MODULES = {
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
    for root in ROOTS
    for path in root.rglob("*.py")
}

#: What the modules below a name may import besides the standard library; the longest name
#: that fits decides. A package may always import itself.
_GRPC = ("grpc", "grpc_status", "google.rpc", "google.protobuf")
#: What both halves need.
_SHARED = (
    "negserve.errors",
    "negserve.extras",
    "negserve.nearest",
    "negserve.printable",
    "negserve.targets",
    "negserve.variables",
)
_ENGINE = (
    "negserve.extras",
    "negserve_server.errors",
    "negserve_server.compiled",
    "negserve_server.addresses",
    "negserve_server.tables",
    "numpy",
    "numba",
    "polars",
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "negserve.v1": ("grpc", "google.protobuf"),
    "negserve": (*_GRPC, "numpy"),
    "negserve.cli": ("negserve", "numpy", "click"),
    "negserve.command": ("negserve.ending", "click"),
    "negserve.sampling": ("negserve", "numpy", "torch"),
    "negserve.data": ("negserve", "numpy", "torch"),
    "negserve.integrations": ("negserve", "numpy", "torch"),
    "negserve.integrations.torch_geometric": ("negserve", "torch", "torch_geometric"),
    "negserve.integrations.torchkge": ("negserve", "torch", "torchkge"),
    "negserve.integrations.pykeen": ("negserve", "numpy", "torch", "pykeen"),
    "negserve_server.errors": (),
    "negserve_server.compiled": ("numba",),
    "negserve_server.progress": ("negserve_server.compiled", "rich"),
    "negserve_server.addresses": ("numba", "llvmlite", "numpy"),
    "negserve_server.process_limits": (),
    "negserve_server.c_memory": (),
    "negserve_server.tables": ("negserve_server.errors", "negserve_server.process_limits"),
    "negserve_server.index": _ENGINE,
    "negserve_server.sampling": (*_ENGINE, "negserve_server.index"),
    "negserve_server.graph": (*_ENGINE, "negserve_server.index", "negserve_server.sampling"),
    "negserve_server.service": (
        *_GRPC,
        "grpc_health",
        "grpc_reflection",
        *_ENGINE,
        "negserve_server.c_memory",
        "negserve.nearest",
        "negserve.v1",
        "negserve_server.index",
        "negserve_server.sampling",
        "negserve_server.graph",
    ),
    "negserve_server": (
        *_GRPC,
        *_SHARED,
        "negserve_server",
        "negserve.v1",
        "numpy",
        "click",
        "grpc_health",
    ),
}


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


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_are_allowed(module: str):
    rule = max((name for name in ALLOWED if is_below(module, name)), key=len)
    for name in imports(MODULES[module]):
        if name.split(".")[0] in sys.stdlib_module_names:
            continue
        allowed = any(is_below(name, package) for package in (*ALLOWED[rule], rule))
        assert allowed, f"{module} imports {name}; {rule} may import {ALLOWED[rule]}"


def test_the_client_never_imports_the_server():
    for module, path in MODULES.items():
        if is_below(module, "negserve"):
            assert not any(is_below(name, "negserve_server") for name in imports(path)), module


def test_no_package_in_the_folders_themselves():
    for folder in ("proto", "client", "server"):
        assert not (REPOSITORY / folder / "__init__.py").exists()
