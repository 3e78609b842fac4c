"""Names of objects and tasks, and selections of them as people know them from dbt.

fact_order          an object, or a task such as fact:fact_order
+fact_order         and all that it is loaded from
dim_product+        and all that is loaded from it
1+fact_order+2      so many steps up and down
dim_*               all whose names match
tag:finance         all that carry the tag (etl.object_tag)
kind:dimension      all of a kind: source_table, dimension, fact, aggregate
dim_*,tag:finance   what both select
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import psycopg

from base.errors import UserError, unknown
from driver.warehouse import Object, fetch

LIST = "oceanrecords ls"
_SELECTOR = re.compile(r"(?:(?P<up>\d*)\+)?(?P<what>[^+]+?)(?:\+(?P<down>\d*))?")


@dataclass(frozen=True)
class Catalog:
    """The objects of the warehouse, and the names of its tasks.

    Attributes:
        objects: by name, in their order.
        tasks: names of tasks, each with its object.
    """

    objects: dict[str, Object]
    tasks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: psycopg.Connection[Any]) -> Catalog:
        """Read it from the database."""
        objects = fetch(connection, Object, "ORDER BY position NULLS LAST, object")
        rows = connection.execute("SELECT task, object FROM etl.task ORDER BY position").fetchall()
        return cls({one.object: one for one in objects}, dict(rows))

    @property
    def tags(self) -> list[str]:
        """All tags in use."""
        return sorted({tag for one in self.objects.values() for tag in one.tags})

    def select(self, selectors: Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
        """Return the objects that selectors name, in the order of the catalog.

        Parameters:
            selectors: what to take; nothing takes all.
            exclude: what to leave out of it.

        Raises:
            UserError: if a name, tag or kind does not exist, or nothing is left.
        """
        taken, left_out = list(selectors), list(exclude)
        chosen = set().union(*map(self._chosen, taken)) if taken else set(self.objects)
        for selector in left_out:
            chosen -= self._chosen(selector)
        if not chosen:
            given = " ".join([*taken, *(f"--exclude {one}" for one in left_out)])
            raise UserError(
                f"The selection {given} is empty.".replace("  ", " "),
                f"`{LIST}` lists all objects.",
            )
        order = [*self.objects, *(name for name in self.tasks.values() if name not in self.objects)]
        return [name for name in dict.fromkeys(order) if name in chosen]

    def names_for_a_run(self, only: Sequence[str], exclude: Sequence[str]) -> list[str] | None:
        """Return the tasks or objects that a run is confined to; None for all of them.

        A single task keeps its name, so that `--only fact:fact_order` is that task alone.
        """
        if not only and not exclude:
            return None
        if not exclude and all(one in self.tasks or one in self.objects for one in only):
            return list(only)
        tasks = [one for one in only if one in self.tasks and one not in self.objects]
        others = [one for one in only if one not in tasks]
        if tasks and not others:
            dropped = set().union(*map(self._chosen, exclude)) if exclude else set()
            kept = [one for one in tasks if self.tasks[one] not in dropped and one not in exclude]
            if kept:
                return kept
        names = [name for name in self.select(others, exclude) if name in self.tasks.values()]
        return tasks + names

    def require(self, name: str, *kinds: str) -> str:
        """Return the name of an object, if there is one of these kinds (of any without kinds).

        Raises:
            UserError: if there is none.
        """
        known = [one.object for one in self.objects.values() if not kinds or one.kind in kinds]
        if name not in known:
            raise unknown(kinds[0] if len(kinds) == 1 else "object", name, known, lists=LIST)
        return name

    def _chosen(self, selector: str) -> set[str]:
        """Return the objects that one selector takes."""
        parts = [self._one(part.strip()) for part in selector.split(",")]
        return set.intersection(*parts)

    def _one(self, selector: str) -> set[str]:
        match = _SELECTOR.fullmatch(selector)
        if match is None:
            raise UserError(
                f'The selector "{selector}" cannot be read.',
                "Write a name, +name, name+, 2+name, tag:name, kind:name, or a pattern: dim_*.",
                exit_code=2,
            )
        chosen = self._named(match["what"])
        result = set(chosen)
        if match["up"] is not None:
            result |= self._walk(chosen, match["up"], lambda one: one.upstream)
        if match["down"] is not None:
            result |= self._walk(chosen, match["down"], lambda one: one.downstream)
        return result

    def _named(self, what: str) -> set[str]:
        if what in self.objects:
            return {what}
        if what in self.tasks:
            return {self.tasks[what]}
        method, colon, value = what.partition(":")
        if colon and method == "tag":
            if value not in self.tags:
                raise unknown("tag", value, self.tags, lists=LIST)
            return {one.object for one in self.objects.values() if value in one.tags}
        if colon and method == "kind":
            kinds = {one.kind.replace(" ", "_") for one in self.objects.values()}
            if value not in kinds:
                raise unknown("kind", value, kinds, lists=LIST)
            return {
                one.object for one in self.objects.values() if one.kind.replace(" ", "_") == value
            }
        if any(sign in what for sign in "*?["):
            found = {name for name in self.objects if fnmatchcase(name, what)}
            if found:
                return found
        if what in self.tasks.values():  # checks and maintenance are no objects of the graph
            return {what}
        raise unknown("object", what, [*self.objects, *self.tasks], lists=LIST)

    def _walk(
        self, start: set[str], steps: str, neighbours: Callable[[Object], list[str]]
    ) -> set[str]:
        found, edge = set(start), set(start)
        left = int(steps) if steps else -1
        while edge and left != 0:
            edge = {
                name
                for one in edge
                if one in self.objects
                for name in neighbours(self.objects[one])
                if name not in found
            }
            found |= edge
            left -= 1
        return found
