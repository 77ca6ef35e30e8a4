"""Run every benchmark: ``make bench``."""

from __future__ import annotations

from benchmarks import engine, remote

if __name__ == "__main__":
    engine.main()
    remote.main()
