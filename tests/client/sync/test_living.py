"""A set that keeps nothing alive, and loses no interrupt."""

from __future__ import annotations

import weakref
from itertools import repeat

from negserve._sync.forks import Living


class Thing:
    pass


def test_the_dead_are_no_members():
    living = Living[Thing]()
    first, second = Thing(), Thing()
    for thing in (first, second, first):
        living.add(thing)
    assert len(living) == 2
    assert set(living) == {first, second}
    assert first in living
    assert Thing() not in living
    del thing, first
    assert list(living) == [second]
    assert len(living) == 1
    for _ in repeat(None, 1000):
        living.add(Thing())
    assert len(living._references) < 3, "the dead take no memory"
    living.clear()
    assert not len(living)
    assert second not in living


def test_no_python_runs_when_a_member_dies():
    living, thing = Living[Thing](), Thing()
    living.add(thing)
    (reference,) = weakref.getweakrefs(thing)
    assert not hasattr(reference.__callback__, "__code__")
