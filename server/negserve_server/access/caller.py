"""A caller: its name, its scopes, the datasets that it sees, and its quotas."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

from negserve.types.checks.text import quoted, shortened
from negserve_server.access.negative_rate import NegativeRate
from negserve_server.errors import Refusal

#: What a caller may do: draw negatives and read datasets, publish graphs, administer the server.
Scope = Literal["sample", "publish", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: What callers may do who are not told apart, and those with a token of a plain file.
USUAL_SCOPES: frozenset[Scope] = frozenset({"sample", "publish"})
EVERY_DATASET = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How much a caller may have; None for what all callers may have.

    :ivar max_streams: open streams
    :ivar negatives_per_second: negatives of all its streams
    :ivar max_ahead_bytes: memory of answers that it has not taken yet
    :ivar max_published_triples: triples of the graphs that it has published
    """

    max_streams: int | None = None
    negatives_per_second: int | None = None
    max_ahead_bytes: int | None = None
    max_published_triples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls.

    :ivar name: of its token, or the subject of its certificate; empty if callers are not told apart
    :ivar scopes: what it may do
    :ivar datasets: shell patterns of the names that it sees
    :ivar quotas: of the process
    :ivar rate: bounds its negatives; None for any number
    """

    name: str = ""
    scopes: frozenset[Scope] = USUAL_SCOPES
    datasets: tuple[str, ...] = EVERY_DATASET
    quotas: Quotas = field(default_factory=Quotas)
    rate: NegativeRate | None = None

    def __str__(self) -> str:
        return shortened(self.name) or "anybody"

    def sees(self, dataset: str) -> bool:
        """Tell whether it may know of a dataset."""
        return any(fnmatchcase(dataset, pattern) for pattern in self.datasets)

    def check_scope(self, scope: Scope) -> None:
        """Refuse what needs a scope that it has not.

        :raises Refusal: with ``NOT_PERMITTED``
        """
        if scope not in self.scopes:
            scopes = tuple(sorted(self.scopes))
            raise Refusal(
                f"{self} lacks the scope {scope}, it has {', '.join(scopes) or 'none'}; use "
                f"another token, or ask the operator to add the scope to its entry in the file of "
                f"tokens",
                reason="NOT_PERMITTED",
                caller=self,
                scope=scope,
                limit=scopes,
            )

    def check_dataset(self, dataset: str) -> None:
        """Refuse a dataset that it may not know of, whether there is one or not.

        :raises Refusal: with ``NOT_PERMITTED``
        """
        if not self.sees(dataset):
            raise self._no_access(f"a dataset {quoted(dataset)}", dataset)

    def check_every_dataset(self) -> None:
        """Refuse what is about all datasets, unless it may know of all.

        :raises Refusal: with ``NOT_PERMITTED``
        """
        if EVERY_DATASET[0] not in self.datasets:
            raise self._no_access("every dataset, which this call is about", EVERY_DATASET[0])

    def _no_access(self, what: str, value: str) -> Refusal:
        return Refusal(
            f"{self} has no access to {what}, only to names like "
            f"{', '.join(map(quoted, self.datasets))}; use another token, or ask the operator to "
            f"add the name to the datasets of its entry in the file of tokens",
            reason="NOT_PERMITTED",
            caller=self,
            value=value,
            limit=self.datasets,
        )


#: The caller of the call that the current task answers.
CALLER: ContextVar[Caller] = ContextVar("CALLER", default=Caller())  # noqa: B039
