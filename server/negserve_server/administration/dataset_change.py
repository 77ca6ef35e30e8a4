"""What was done to a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["unchanged", "loaded", "replaced", "unloaded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetChange:
    """What was done to one dataset.

    :ivar name: of the dataset
    :ivar action: what was done
    :ivar fingerprint: of the version served from now on; empty if none is
    :ivar previous_fingerprint: of the version served before; empty if none was
    :ivar problem: why it failed; empty unless it did
    :ivar num_streams: of one that was unloaded: streams that used it
    """

    name: str
    action: Action
    fingerprint: str = ""
    previous_fingerprint: str = ""
    problem: str = ""
    num_streams: int = 0

    def __str__(self) -> str:
        if self.action == "failed":
            what = f"stays on {self.fingerprint}" if self.fingerprint else "is not served"
            return f"dataset {self.name} {what}: {self.problem}"
        if self.action == "replaced":
            return (
                f"dataset {self.name} replaced: fingerprint {self.fingerprint}, before "
                f"{self.previous_fingerprint}"
            )
        of = self.fingerprint or self.previous_fingerprint
        return f"dataset {self.name} {self.action}: fingerprint {of}"
