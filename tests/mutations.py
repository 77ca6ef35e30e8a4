"""Plants realistic bugs, each alone, into a copy of this tree: a named test must catch each.

``python -m tests.mutations [NAME ...]``; without names, all of them. It fails if the text that a
bug replaces is not there exactly once, if the named test passes with the bug, or fails without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

REPOSITORY = Path(__file__).parents[1]
_SECONDS = 300
#: Exit statuses of pytest.
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True)
class Mutation:
    """A bug.

    :ivar old: text of the file, there once
    :ivar new: what a mistaken author would write instead
    :ivar test: node id of the test that catches it
    """

    name: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = (
    # First those that take longest: kernels are compiled again, and a change is waited for.
    Mutation(
        "original drawn",
        "server/negserve_server/sampling/kernels/preparation.py",
        "set_state(cell_state, cell, IS_ORIGINAL_EXTRA, U1)",
        "set_state(cell_state, cell, IS_ORIGINAL_EXTRA, U0)",
        "tests/contract/test_distribution.py"
        "::test_an_original_that_is_not_known_is_never_drawn[in-process-False]",
    ),
    Mutation(
        "shift off by one",
        "server/negserve_server/sampling/kernels/units.py",
        " - before <= index:",
        " - before < index:",
        "tests/server/sampling/test_against_reference.py"
        "::test_saturated_slots_fall_to_another_and_then_to_any_id[exact-pseudotyped]",
    ),
    Mutation(
        "certificates are read once",
        "server/negserve_server/listening/certificates.py",
        "            self._read_if_changed()\n",
        "",
        "tests/server/listening/test_certificates.py::"
        "test_renewed_client_authorities_are_taken_without_a_restart",
    ),
    Mutation(
        "a hidden dataset is read",
        "server/negserve_server/service/streams/requests.py",
        "    caller.check_dataset(name)\n",
        "",
        "tests/server/access/test_scopes.py::"
        "test_a_hidden_dataset_is_refused_whether_it_exists_or_not[GetVocabulary-world]",
    ),
    Mutation(
        "a hidden dataset is listed",
        "server/negserve_server/service/servicer.py",
        "if sees(each[0])",
        "if each[0]",
        "tests/server/access/test_scopes.py::test_a_client_sees_its_datasets_only",
    ),
    Mutation(
        "labels are markup",
        "server/negserve_server/pages/status_site.py",
        "autoescape=True",
        "autoescape=False",
        "tests/server/pages/test_playground.py::test_hostile_labels_are_text[1]",
    ),
    Mutation(
        "known triples are not struck out",
        "server/negserve_server/pages/playground.py",
        "ShownNegative(shown((head, relation, tail)), slot, valid)",
        "ShownNegative(shown((head, relation, tail)), slot, True)",
        "tests/server/pages/test_playground.py::"
        "test_known_triples_are_struck_out_and_others_are_not[1]",
    ),
    Mutation(
        "a status page that nobody asked for",
        "server/negserve_server/serving/observation.py",
        "self._has_page = config.status_page",
        "self._has_page = True",
        "tests/server/pages/test_status_page.py::test_without_the_option_there_is_no_page",
    ),
    Mutation(
        "visitors draw as often as they like",
        "server/negserve_server/pages/drawing_turns.py",
        "            self._left -= 1\n",
        "",
        "tests/server/pages/test_playground.py::test_visitors_draw_a_few_times_a_second",
    ),
    Mutation(
        "a status page of one worker",
        "server/negserve_server/serving/server.py",
        "self._observation.run(state, control, self._datasets)",
        "self._observation.run(state, own, self._datasets)",
        "tests/server/pages/test_status_page.py::test_a_visitor_reads_what_the_server_holds[2]",
    ),
    Mutation(
        "a quota of negatives that epochs do not count for",
        "server/negserve_server/service/servicer.py",
        "await stream.spend(epoch_messages.num_negatives)",
        "await stream.spend(0)",
        "tests/server/access/test_quotas.py::test_an_epoch_is_spread_over_time",
    ),
    Mutation(
        "published triples are nobody's",
        "server/negserve_server/publishing/publish_quota.py",
        "if self._publishers.get(name) == caller.name",
        "if self._publishers.get(name) == announcement.name",
        "tests/server/access/test_quotas.py::test_triples_that_a_token_publishes_are_bounded[1]",
    ),
    Mutation(
        "plain text everywhere",
        "server/negserve_server/serving/exposure.py",
        "config.tls_cert is None and not config.insecure",
        "config.tls_cert is None and config.insecure is None",
        "tests/server/listening/test_open_addresses.py::"
        "test_plain_text_beyond_this_machine_has_to_be_said[nothing-0.0.0.0:0]",
    ),
    Mutation(
        "handshakes may take for ever",
        "server/negserve_server/listening/channel_options.py",
        "round(1000 * min(connection_idle_seconds, _MOST_HANDSHAKE_SECONDS))",
        "3_600_000",
        "tests/server/listening/test_strangers.py::"
        "test_connections_without_calls_are_closed[True-nothing]",
    ),
    Mutation(
        "idle connections stay",
        "server/negserve_server/listening/channel_options.py",
        "round(1000 * connection_idle_seconds)",
        "3_600_000",
        "tests/server/listening/test_strangers.py::"
        "test_connections_without_calls_are_closed[False-HTTP/2]",
    ),
    Mutation(
        "wrong split filtered",
        "server/negserve_server/graph/filter_indexes.py",
        "chosen = tuple(name for name in SPLITS if name in splits)",
        "chosen = SPLITS[: len(splits)]",
        "tests/server/graph/test_triples_factory.py::test_filter_covers_exactly_the_chosen_splits",
    ),
    Mutation(
        "counter reused between ranks",
        "server/negserve_server/graph/epoch.py",
        "runs, rows, self._first, positives",
        "runs, rows, self._first - config.rank * config.batch_size, positives",
        "tests/server/graph/test_epoch.py::test_world_is_the_same_for_every_cut[basic]",
    ),
    Mutation(
        "batch dropped on reconnect",
        "client/negserve/_protocol/epoch_progress.py",
        "self._start = batches[-1].next_start",
        "self._start = plan.batch(min(self._num_taken, len(plan) - 1))[2]",
        "tests/client/sync/test_epoch_stream.py"
        "::test_streams_that_break_are_opened_again_where_they_were",
    ),
    Mutation(
        "mask inverted",
        "client/negserve/_protocol/sampler_answers.py",
        "mask[of] = flags.view(np.bool_).reshape(n, k)",
        "mask[of] = ~flags.view(np.bool_).reshape(n, k)",
        "tests/contract/test_saturation.py"
        "::test_saturated_positives_are_masked_and_counted[remote]",
    ),
    Mutation(
        "int32 overflow",
        "server/negserve_server/index/pair_builder.py",
        "np.ascontiguousarray(column[rows], dtype=np.uint64)",
        "np.ascontiguousarray(column[rows]).astype(np.int32).astype(np.uint64)",
        "tests/server/index/test_filter_index.py"
        "::test_largest_ids_of_the_largest_id_space_are_found",
    ),
    Mutation(
        "cache without bound",
        "server/negserve_server/tables.py",
        "self._take(table.nbytes)",
        "self._settle()",
        "tests/server/test_tables.py::test_the_least_recently_used_give_way_first",
    ),
    Mutation(
        "stale table after eviction",
        "server/negserve_server/tables.py",
        "self._graph = _Graph()",
        'self._graph = "graph"',
        "tests/server/test_tables.py::test_graphs_share_the_bytes_but_not_the_tables",
    ),
    Mutation(
        "swallowed error",
        "client/negserve/_calls/epochs.py",
        "raise item",
        "item = [], True",
        "tests/client/sync/test_epoch_stream.py::test_a_fault_of_the_server_is_told_at_once",
    ),
    Mutation(
        "epochs of a rank at one replica",
        "client/negserve/_protocol/epoch_progress.py",
        "config.worker + self.epoch",
        "config.worker",
        "tests/faults/streams/test_spread_streams.py::test_eight_ranks_have_equal_shares_of_three_replicas",
    ),
)


class Copy:
    """A copy of what git knows in this tree, with the kernels that are compiled already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY, capture_output=True, text=True, check=True,
        )  # fmt: skip
        files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
        files += (REPOSITORY / "server").rglob("__pycache__/*.nb[ci]")
        for file in files:
            if file.is_file():
                copy = folder / file.relative_to(REPOSITORY)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy)

    def test(self, *tests: str) -> tuple[int, str]:
        """Run tests; give the exit status, and what pytest said."""
        paths = [str(self._folder / name) for name in ("client", "server")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=self._folder, capture_output=True, text=True, timeout=_SECONDS,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "NEGSERVE_DATA": str(self._folder),  # none of them needs a graph of a benchmark
            },
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def complaint(self, mutation: Mutation) -> str | None:
        """Plant a bug and take it out again; give what is wrong with that, if anything."""
        path = self._folder / mutation.file
        if not path.exists():
            return f"there is no {mutation.file}"
        text = path.read_text("utf-8")
        if text.count(mutation.old) != 1:
            return f"{mutation.file} has {text.count(mutation.old)} times: {mutation.old}"
        path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
        try:
            status, said = self.test(mutation.test)
        except subprocess.TimeoutExpired:
            return f"{mutation.test} does not end within {_SECONDS} s"
        finally:
            path.write_text(text, "utf-8")
        if status == _PASSED:
            return f"not caught by {mutation.test}"
        if status != _FAILED:
            return f"{mutation.test} can't run\n{said}"
        return None


def main() -> int:
    """Plant each bug, print what became of it, and give the exit status."""
    wanted = sys.argv[1:] or [mutation.name for mutation in MUTATIONS]
    chosen = [mutation for mutation in MUTATIONS if mutation.name in wanted]
    if len(chosen) != len(wanted):
        known = ", ".join(mutation.name for mutation in MUTATIONS)
        sys.exit(f"no such mutation among {wanted}; there are {known}")
    with ExitStack() as stack:
        # Two at a time: some tests wait for what a bug keeps from happening.
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        free: Queue[Copy] = Queue()
        for folder in folders:
            free.put(Copy(Path(folder)))
        copy = free.get()
        status, said = copy.test(*{mutation.test: None for mutation in chosen})
        free.put(copy)
        if status != _PASSED or "skipped" in said:
            sys.exit(f"not all tests pass without any bug\n{said}")

        def plant(mutation: Mutation) -> bool:
            copy, begin = free.get(), time.monotonic()
            complaint = copy.complaint(mutation)
            free.put(copy)
            seconds = time.monotonic() - begin
            print(f"{mutation.name}: {complaint or 'caught'}, {seconds:.0f} s", flush=True)
            return complaint is not None

        threads = stack.enter_context(ThreadPoolExecutor(len(folders)))
        return int(any(list(threads.map(plant, chosen))))


if __name__ == "__main__":
    sys.exit(main())
