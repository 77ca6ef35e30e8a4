r"""Add Python and the packages of Debian to the SBOM of an image's environment.

Run as ``dpkg-query --show --showformat '${Package}\t${Version}\t${Architecture}\n' | python
complete_sbom.py SBOM``, by the Python of the image, with the environment that has cyclonedx-bom.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


def component(kind: str, purl: PackageURL) -> dict[str, Any]:
    """Describe a package as CycloneDX does."""
    text = purl.to_string()
    return {
        "bom-ref": text, "name": purl.name, "purl": text, "type": kind, "version": purl.version,
    }  # fmt: skip


if __name__ == "__main__":
    path = Path(sys.argv[1])
    bill = json.loads(path.read_text())
    packages = [line.rstrip("\n").split("\t") for line in sys.stdin]
    assert packages, "dpkg-query names no package"
    bill["components"] += [
        component("application", PackageURL("generic", None, "python", platform.python_version())),
        *(
            component("library", PackageURL("deb", "debian", name, version, {"arch": architecture}))
            for name, version, architecture in packages
        ),
    ]
    text = json.dumps(bill, indent=2)
    error = JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text)
    assert error is None, error
    path.write_text(text + "\n")
