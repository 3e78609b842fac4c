"""Mutates the engine in one place at a time and reports which tests notice: `python -m tests.mutation`.

Each mutation replaces one piece of a template or routine in a copy of the project, in which the
suites run until one fails. A mutation that no suite notices is a missing test. A mutation whose
text is gone must be rewritten. Both end the program with status 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NO_TESTS = 5  # exit status of pytest
SUITES = {
    "catalog": "tests/engine/test_catalog.py",
    "second business": "tests/engine/test_second_business.py",
    "contract": "tests/engine/test_contract.py",
    "change detection": "tests/engine/test_change_detection.py",
    "actions": "tests/warehouse/test_actions.py",
    "quarantine": "tests/warehouse/test_quarantine.py",
    "faults": "tests/warehouse/test_faults.py",
    "reconcile": "tests/operations/test_reconcile.py",
    "checks": "tests/operations/test_checks.py",
    "histories": "tests/warehouse/test_histories.py",
}


@dataclass(frozen=True)
class Mutation:
    """One wrong statement.

    Attributes:
        file: below plpgsql/engine.
        right, wrong: the text, and what replaces its first occurrence.
        meaning: what is wrong then.
        tests: those that should notice, an expression of pytest's -k within the first suite.
        suites: run as a whole if those do not, the quickest first.
    """

    file: str
    right: str
    wrong: str
    meaning: str
    tests: str
    suites: tuple[str, ...] = ("second business", "actions", "histories")


MUTATIONS = (
    Mutation(
        "mirror/values.sql",
        "AND NOT pg_visible_in_snapshot({{column}}, {{snapshot}})",
        "AND {{column}} >= pg_snapshot_xmax({{snapshot}})",
        "a row that commits late is missed",
        "open_before_the_run",
        ("actions", "histories"),
    ),
    Mutation(
        "mirror/values.sql",
        "AND ({{column}} < {{until}} OR {{column}} > {{read_at}})",
        "AND true",
        "rows younger than the oldest transaction are read, and its own are missed",
        "rows_younger or commits_after_the_run",
        ("change detection",),
    ),
    Mutation(
        "mirror/compile_extract.sql",
        "AND NOT pg_visible_in_snapshot(t.row_xid, this.last)",
        "AND t.row_xid >= pg_snapshot_xmax(this.last)",
        "a late deletion is missed",
        "late_update_and_a_late_delete",
        ("actions", "histories"),
    ),
    Mutation(
        "mirror/compile_extract.sql",
        "AND NOT EXISTS (SELECT FROM source.{{table}} AS s WHERE {{s.key = m.key}})",
        "AND false",
        "deleted rows are not found by comparison",
        "deleted_rows_are_found",
        ("change detection",),
    ),
    Mutation(
        "mirror/compile_compare.sql",
        "ELSE {{m.values <> s.values}}",
        "ELSE false",
        "a full comparison finds no changed row",
        "full_refresh or new_and_changed",
        ("change detection",),
    ),
    Mutation(
        "mirror/compile_extract.sql",
        "SELECT this.batch_id{{, s.columns}}\n    FROM source.{{table}} AS s;",
        "SELECT this.batch_id{{, s.columns}}\n    FROM source.{{table}} AS s OFFSET 1;",
        "the initial extraction loses a row",
        "it_loads",
    ),
    Mutation(
        "mirror/compile_merge.sql",
        "WHERE c.batch_id = this.batch_id{{unwatched}}",
        "WHERE c.batch_id = this.batch_id{{unwatched}} AND c.delta_operation <> 'before'",
        "only the new image of a row makes keys pending",
        "moves_between_groups",
    ),
    Mutation(
        "load/pending.sql",
        "SELECT {{key}} FROM {{table}}",
        "SELECT {{key}} FROM {{view}}",
        "a complete load leaves rows that the view no longer gives",
        "changed_view_leaves_out",
        ("second business", "reconcile"),
    ),
    Mutation(
        "load/dimension_template.sql",
        "WHEN s._goes_on THEN 'infinity'\n            ELSE least(n.valid_to, s._at)",
        "WHEN s._goes_on THEN 'infinity'\n            ELSE n.valid_to",
        "a changed version is not closed",
        "it_keeps_history",
    ),
    Mutation(
        "load/dimension_template.sql",
        "CASE WHEN s._latest IS NULL THEN '-infinity' ELSE s._at END",
        "s._at",
        "the first version does not reach back",
        "older_than_the_customer",
        ("actions", "histories"),
    ),
    Mutation(
        "load/dimension_template.sql",
        "AND NOT ({{l.tracked <> m.tracked}})",
        "AND true",
        "a change of a type 2 attribute opens no version",
        "it_keeps_history",
    ),
    Mutation(
        "load/dimension_template.sql",
        "coalesce(lead(w._at) OVER point, 'infinity')",
        "'infinity'",
        "versions from a log overlap",
        "changed_price or several_price",
        ("actions", "histories"),
    ),
    Mutation(
        "load/dimension_template.sql",
        "SELECT *\n    FROM succeeded\n    WHERE NOT _is_absent",
        "SELECT *\n    FROM succeeded\n    WHERE true",
        "a deleted member with a log keeps a version",
        "product_that_comes_back",
        ("actions", "histories"),
    ),
    Mutation(
        "load/dimension_template.sql",
        "CASE WHEN v._is_there THEN v.%1$I ELSE l.%1$I END AS %1$I",
        "l.%1$I",
        "a type 1 attribute is not overwritten",
        "it_follows_changes",
    ),
    Mutation(
        "load/dimension_template.sql",
        "THEN etl._refuse_repeated_key({{name}}, {{key_as_json}})",
        "THEN true",
        "a member that the view gives twice is loaded",
        "view_gives_twice",
        ("contract", "quarantine"),
    ),
    Mutation(
        "load/dimension.sql",
        "AND f._as_of >= w.valid_to",
        "AND f._as_of > w.valid_to + interval '100 years'",
        "facts behind an earlier end keep the old version",
        "late_price",
        ("actions", "histories"),
    ),
    Mutation(
        "load/fact_template.sql",
        "ELSE coalesce(d%s.%I, -1) END",
        "ELSE coalesce(d%s.%I, -2) END",
        "an unknown member gets the key of Not Yet",
        "unknown_status",
        ("quarantine", "histories"),
    ),
    Mutation(
        "load/fact_template.sql",
        "AND v.%1$I < d%2$s.valid_to",
        "AND v.%1$I <= d%2$s.valid_to",
        "two versions match at the moment of a change",
        "moment_of_a_change",
        ("actions", "histories"),
    ),
    Mutation(
        "load/fact_template.sql",
        "IN (SELECT %s FROM work.%I AS p) THEN -1'",
        "IN (SELECT %s FROM work.%I AS p WHERE false) THEN -1'",
        "a fact takes a version of a member whose changes are pending",
        "version_in_doubt",
        ("faults", "histories"),
    ),
    Mutation(
        "load/fact.sql",
        "'w._is_given IS NULL OR w.is_deleted AS is_deleted'",
        "'w.is_deleted AS is_deleted'",
        "a fact that the view no longer gives stays",
        "moves_between_groups",
    ),
    Mutation(
        "load/fact.sql",
        "PERFORM compiled.{{contribute}}(-1, v_aggregates);",
        "PERFORM compiled.{{contribute}}(0, v_aggregates);",
        "an aggregate adds without subtracting",
        "changed_line",
        ("actions", "histories"),
    ),
    Mutation(
        "load/contribution.sql",
        "AND ({{name}} = ANY (w.touched_aggregates)) IS NOT FALSE",
        "AND ({{name}} = ANY (w.touched_aggregates)) IS FALSE",
        "aggregates miss the changes that concern them",
        "changed_line",
        ("actions", "histories"),
    ),
    Mutation(
        "load/aggregate.sql",
        "SET run_id = excluded.run_id{{new_sums}}",
        "SET run_id = excluded.run_id",
        "an existing group of an aggregate is not changed",
        "changed_line or placed_order",
        ("actions", "histories"),
    ),
    Mutation(
        "load/queue.sql",
        "AND (q.is_ready OR q.tried_at < $2)",
        "AND q.tried_at < $2",
        "a resolved fact stays in the queue",
        "it_reprocesses",
    ),
    Mutation(
        "reconcile/compare.sql",
        "FULL JOIN (",
        "LEFT JOIN (",
        "reconciliation does not see surplus rows",
        "missing_and_surplus",
        ("reconcile",),
    ),
    Mutation(
        "watch/check.sql",
        "THEN 'passed' ELSE 'failed' END",
        "THEN 'passed' ELSE 'passed' END",
        "a check with violations passes",
        "failed_check_makes or each_check_finds",
        ("checks",),
    ),
    Mutation(
        "mirror/unchanged.sql",
        "AND NOT pg_visible_in_snapshot(t.row_xid, this.last)",
        "AND t.row_xid >= pg_snapshot_xmax(this.last)",
        "a late deletion, alone, passes for nothing new",
        "late_deletion_alone",
        ("actions", "histories"),
    ),
    Mutation(
        "mirror/compile_merge.sql",
        "(b.deleted_at IS NOT NULL OR {{b.values <> d.values}})",
        "({{b.values <> d.values}})",
        "a row that comes back as it was stays deleted",
        "comes_back_as_it_was",
        ("change detection", "actions", "histories"),
    ),
    Mutation(
        "mirror/compile_merge.sql",
        "HAVING count(*) > 1",
        "HAVING false",
        "rows that share a key are not quarantined",
        "without_a_usable_key",
        ("quarantine", "contract"),
    ),
    Mutation(
        "mirror/watermark.sql",
        "AND pg_snapshot_xmax(p_batch.snapshot) >= pg_snapshot_xmin(p_watermark.snapshot)",
        "",
        "a source that went back in time passes for the same",
        "went_back_in_time",
        ("faults",),
    ),
    Mutation(
        "run/claim.sql",
        "ELSE e.wait_for = 'success' AND p.status <> 'succeeded'",
        "ELSE false",
        "a task begins though what it needs has failed",
        "has_just_failed_is_not_free",
        ("faults",),
    ),
    Mutation(
        "run/claim.sql",
        "SET status = CASE WHEN t.attempts < t.max_attempts THEN 'pending' ELSE 'failed' END",
        "SET status = 'failed'",
        "a task of a worker that died is not taken over",
        "taken_over_by_another",
        ("faults",),
    ),
    Mutation(
        "run/idle.sql",
        "WHERE q.is_ready AND q.fact = %L LIMIT 1",
        "WHERE false AND q.fact = %L LIMIT 1",
        "a queue with facts that can be resolved passes for nothing to do",
        "made_ready_is_resolved",
        ("second business", "faults"),
    ),
    Mutation(
        "catalog/task_graph.sql",
        "SELECT 'fact:' || k.fact, t.task, 'end'",
        "SELECT 'fact:' || k.fact, t.task, 'success'",
        "a failed dimension stops its facts",
        "failed_dimension_does_not_stop",
        ("faults",),
    ),
    Mutation(
        "catalog/contract.sql",
        "OR etl._column_type(to_regclass(w.relation), c.name) IS NULL",
        "",
        "a declared column that does not exist is not refused",
        "a_fault_of_the_catalog",
        ("catalog",),
    ),
)


def try_out(mutation: Mutation, folder: Path, *, is_quick: bool) -> tuple[str, str]:
    """Return which suite noticed a mutation in a copy of the project, and by which test."""
    path = folder / "plpgsql" / "engine" / mutation.file
    text = path.read_text(encoding="utf-8")
    if mutation.right not in text:
        return "text not found", ""
    path.write_text(text.replace(mutation.right, mutation.wrong, 1), encoding="utf-8")
    try:
        narrow = [(mutation.suites[0], ["-k", mutation.tests])] if mutation.tests else []
        whole = [] if is_quick and narrow else [(one, list[str]()) for one in mutation.suites]
        for suite, choice in [*narrow, *whole]:
            command = [sys.executable, "-m", "pytest", "-xqp", "no:cacheprovider", SUITES[suite]]
            finished = subprocess.run(
                [*command, *choice],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(folder)},
                capture_output=True,
                text=True,
                check=False,
            )
            if finished.returncode == 1:
                failed = re.search(r"^(?:FAILED|ERROR) \S+?::(\w+)", finished.stdout, flags=re.M)
                return suite, failed[1] if failed else "build"
            if finished.returncode not in (0, NO_TESTS):
                raise SystemExit(finished.stdout + finished.stderr)
    finally:
        path.write_text(text, encoding="utf-8")
    return "nothing", ""


def main() -> None:
    """Try all mutations, or those of the files that are named, and print a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="files below plpgsql/engine; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="run the named tests only, where a mutation names any"
    )
    arguments = parser.parse_args()
    wanted = arguments.files
    missed = 0
    print(
        "| file | what is wrong | noticed by | test | seconds |\n|---|---|---|---|--:|", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="oceanrecords-mutation-") as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "project"
        ignored = shutil.ignore_patterns(
            ".venv", ".git", "__pycache__", ".*_cache", "site", "*.egg-info"
        )
        shutil.copytree(ROOT, folder, ignore=ignored)
        for mutation in MUTATIONS:
            if wanted and mutation.file not in wanted:
                continue
            begun = time.monotonic()
            suite, test = try_out(mutation, folder, is_quick=arguments.quick)
            missed += suite in ("nothing", "text not found")
            took = time.monotonic() - begun
            print(
                f"| `{mutation.file}` | {mutation.meaning} | {suite} | {test and f'`{test}`'} | {took:.0f} |",
                flush=True,
            )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
