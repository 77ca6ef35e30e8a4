"""If a library is missing, the error says what to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from negserve.evaluation import EvaluationReport
from tests.support import preloaded

_HIDE = """
import sys, warnings
from importlib.abc import MetaPathFinder
warnings.simplefilter("ignore")
for name in [*sys.modules]:
    if name.partition(".")[0] in {{*{names}, "negserve", "negserve_server"}}:
        del sys.modules[name]
class Hidden(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = ["program", *{arguments}]
{program}
"""

SERVER = {"click", "numba", "polars", "grpc_health", "grpc_reflection", "rich"}
RUN = "import runpy; runpy.run_module({!r}, run_name='__main__')"


def tried(program: str, names: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports us anew, and can't import some libraries."""
    source = _HIDE.format(names=names, program=program, arguments=list(arguments))
    return preloaded.run(["-c", source], timeout=120)


@pytest.mark.parametrize(
    ("module", "names", "package"),
    [
        ("negserve_server.cli", SERVER, "negserve[server]"),
        ("negserve_server.cli", {"numba"}, "negserve[server]"),
        ("negserve_server.cli", {"polars"}, "negserve[server]"),
        ("negserve_server.cli", {"grpc_health"}, "negserve[server]"),
        ("negserve_server.health_check", SERVER, "negserve[server]"),
        ("negserve.cli", {"click"}, "negserve[cli]"),
    ],
)
def test_a_command_ends_with_one_line(module: str, names: set[str], package: str):
    result = tried(RUN.format(module), names, "--help")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"is not installed: pip install '{package}'" in line
    assert any(f"needs {name}," in line for name in names)


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("negserve.sampling", "torch", "negserve[client]"),
        ("negserve.data", "torch", "negserve[client]"),
        ("negserve.integrations.pykeen", "torch", "negserve[pykeen]"),
        ("negserve.integrations.pykeen", "pykeen", "negserve[pykeen]"),
        ("negserve.integrations.torchkge", "torchkge", "torchkge"),
        ("negserve.integrations.torch_geometric", "torch_geometric", "torch-geometric"),
        ("negserve_server.graph", "polars", "negserve[server]"),
        ("negserve_server.graph", "numba", "negserve[server]"),
        ("negserve_server.index", "numba", "negserve[server]"),
        ("negserve_server.sampling", "numba", "negserve[server]"),
    ],
)
def test_an_import_ends_with_what_to_install(module: str, name: str, package: str):
    result = tried(f"import {module}", {name})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("negserve.errors.MissingLibraryError: negserve")
    assert f"needs {name}, which is not installed: pip install '{package}'" in last


def test_a_report_is_read_without_torch_and_plotted_with_matplotlib(tmp_path: Path):
    report = EvaluationReport(
        "f" * 64,
        ("training",),
        np.array([2], np.uint8),
        *(np.array([number]) for number in (0, 1, 3, 7)),
        relation_kinds=np.array(["1-N"]),
    )
    path = tmp_path / "report.json"
    path.write_text(report.to_json())
    read = (
        f"from negserve.evaluation import EvaluationReport, metric, relation_kinds\n"
        f"report = EvaluationReport.from_json(open({str(path)!r}).read())\n"
    )
    printed = tried(f"{read}print(report)", {"torch", "matplotlib", "rich"})
    assert printed.stdout == f"{report}\n", printed.stderr
    plotted = tried(f"{read}report.plot('x.png')", {"torch", "matplotlib"})
    assert plotted.stderr.splitlines()[-1] == (
        "negserve.errors.MissingLibraryError: EvaluationReport.plot needs matplotlib, which is not "
        "installed: pip install 'negserve[plot]'"
    )
    ranked = tried("from negserve.evaluation import ranks", {"torch"})
    assert "pip install 'negserve[client]'" in ranked.stderr.splitlines()[-1]


def test_a_parquet_file_needs_polars():
    program = "from negserve.evaluation import read_candidates; read_candidates('x.parquet')"
    result = tried(program, {"polars"})
    assert "needs polars, which is not installed: pip install 'negserve[server]'" in result.stderr


def test_a_broken_module_of_ours_is_not_called_missing():
    program = (
        "from negserve.terminal.extras import needing\n"
        "with needing('x', 'y'):\n    import negserve.nix"
    )
    result = tried(program, set())
    assert "ModuleNotFoundError: No module named 'negserve.nix'" in result.stderr
