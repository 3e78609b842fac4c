"""Places boxes and lines of a layered diagram, which reads from left to right.

In every picture of a warehouse the layers are known beforehand (what refers to what, what is made
of what), so that only the order within a layer and the places are left to find: crossings are
reduced by barycentres, places are the least-squares fit that keeps lines straight and boxes apart.
The result is the same for the same input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_BEND_HEIGHT = 8.0
_SWEEPS = 24


@dataclass
class Box:
    """A box to place.

    Attributes:
        rank: layer, from the left.
        x, y: left upper corner, once placed.
    """

    id: str
    width: float
    height: float
    rank: int
    x: float = 0.0
    y: float = 0.0


@dataclass
class Line:
    """A line from the right side of one box to the left side of another, of a higher rank.

    Attributes:
        start, end: ids of the boxes.
        start_at, end_at: where it leaves and enters, in pixels from the upper edge; None for the
            middle.
        points: its way, once placed; within a layer it runs straight from one to the next.
    """

    start: str
    end: str
    start_at: float | None = None
    end_at: float | None = None
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    """A diagram: its boxes and lines have their places."""

    width: float
    height: float


@dataclass
class _Vertex:
    id: str
    rank: int
    height: float
    is_bend: bool
    order: float = 0.0
    middle: float = 0.0


@dataclass(frozen=True)
class _Hop:
    """A piece of a line between neighbouring layers; offsets are from the middles."""

    start: str
    end: str
    start_offset: float
    end_offset: float


def ranks(
    nodes: Iterable[str], edges: Iterable[tuple[str, str]], keep: Iterable[str] = ()
) -> dict[str, int]:
    """Return the layer of each node: behind all that it follows, roots as near as they can be.

    Parameters:
        nodes: the nodes.
        edges: (before, after); must not go round in a circle.
        keep: roots that stay in the first layer.
    """
    before: dict[str, set[str]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)
    for start, end in edges:
        if start != end:
            before[end].add(start)
            after[start].add(end)
    found: dict[str, int] = {}

    def rank(node: str) -> int:
        if node not in found:
            found[node] = 0
            found[node] = max((rank(one) + 1 for one in before[node]), default=0)
        return found[node]

    everything = list(nodes)
    for node in everything:
        rank(node)
    kept = set(keep)
    for node in sorted(everything, key=lambda one: -found[one]):
        if not before[node] and after[node] and node not in kept:
            found[node] = max(0, min(found[one] for one in after[node]) - 1)
    return found


def place(
    boxes: Sequence[Box], lines: Sequence[Line], *, gap_x: float = 56, gap_y: float = 18
) -> Placed:
    """Find places for boxes and ways for lines, and write them into both.

    Parameters:
        boxes: what to place, in an order that the result keeps where nothing speaks against it.
        lines: what connects them.
        gap_x, gap_y: pixels between layers, and between boxes of a layer.
    """
    if not boxes:
        return Placed(0, 0)
    by_id = {box.id: box for box in boxes}
    layers = sorted({box.rank for box in boxes})
    vertices, hops, bends = _pieces(boxes, lines, by_id)
    columns = _order(vertices, hops, layers)
    _settle(columns, hops, vertices, gap_y)

    left = 0.0
    starts, widths = {}, {}
    for layer in layers:
        starts[layer] = left
        widths[layer] = max((box.width for box in boxes if box.rank == layer), default=0)
        left += widths[layer] + gap_x
    top = min(vertex.middle - vertex.height / 2 for vertex in vertices.values())
    for box in boxes:
        vertex = vertices[box.id]
        box.x = starts[box.rank]
        box.y = vertex.middle - box.height / 2 - top
    for number, line in enumerate(lines):
        start, end = by_id[line.start], by_id[line.end]
        start_y = start.y + (start.height / 2 if line.start_at is None else line.start_at)
        end_y = end.y + (end.height / 2 if line.end_at is None else line.end_at)
        line.points = [(start.x + start.width, start_y)]
        for bend in bends[number]:
            middle = vertices[bend].middle - top
            x = starts[vertices[bend].rank]
            line.points += [(x, middle), (x + widths[vertices[bend].rank], middle)]
        line.points.append((end.x, end_y))
    height = max(vertex.middle + vertex.height / 2 for vertex in vertices.values()) - top
    return Placed(left - gap_x, height)


def _pieces(
    boxes: Sequence[Box], lines: Sequence[Line], by_id: Mapping[str, Box]
) -> tuple[dict[str, _Vertex], list[_Hop], list[list[str]]]:
    """Cut lines that cross layers into hops from layer to layer."""
    vertices = {box.id: _Vertex(box.id, box.rank, box.height, False) for box in boxes}
    hops: list[_Hop] = []
    bends: list[list[str]] = []
    for number, line in enumerate(lines):
        start, end = by_id[line.start], by_id[line.end]
        start_offset = 0 if line.start_at is None else line.start_at - start.height / 2
        end_offset = 0 if line.end_at is None else line.end_at - end.height / 2
        passed = []
        before, offset = line.start, start_offset
        for rank in sorted({box.rank for box in boxes if start.rank < box.rank < end.rank}):
            bend = f"bend {number} {rank}"
            vertices[bend] = _Vertex(bend, rank, _BEND_HEIGHT, True)
            hops.append(_Hop(before, bend, offset, 0))
            passed.append(bend)
            before, offset = bend, 0
        hops.append(_Hop(before, line.end, offset, end_offset))
        bends.append(passed)
    return vertices, hops, bends


def _order(
    vertices: dict[str, _Vertex], hops: Sequence[_Hop], layers: Sequence[int]
) -> list[list[_Vertex]]:
    """Order each layer so that few hops cross."""
    columns = [[one for one in vertices.values() if one.rank == layer] for layer in layers]
    for column in columns:
        for place_, vertex in enumerate(column):
            vertex.order = place_
    # Within a box, lines are in order, too: the higher their end, the higher they come from.
    left: dict[str, list[tuple[str, float]]] = defaultdict(list)
    right: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for hop in hops:
        left[hop.end].append((hop.start, hop.start_offset / 1000))
        right[hop.start].append((hop.end, hop.end_offset / 1000))

    best, fewest = [list(column) for column in columns], _crossings(hops, vertices)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = left if forward else right
        for column in columns if forward else reversed(columns):
            centres = {
                one.id: _mean(
                    [vertices[other].order + offset for other, offset in neighbours[one.id]],
                    one.order,
                )
                for one in column
            }
            column.sort(key=lambda one: centres[one.id])
            for place_, vertex in enumerate(column):
                vertex.order = place_
        crossings = _crossings(hops, vertices)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column in best:
        for place_, vertex in enumerate(column):
            vertex.order = place_
    return best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(hops: Sequence[_Hop], vertices: Mapping[str, _Vertex]) -> int:
    by_rank: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for hop in hops:
        by_rank[vertices[hop.start].rank].append(
            (
                vertices[hop.start].order + hop.start_offset / 1000,
                vertices[hop.end].order + hop.end_offset / 1000,
            )
        )
    count = 0
    for pairs in by_rank.values():
        pairs.sort()
        for number, (_, end) in enumerate(pairs):
            count += sum(other < end for _, other in pairs[number + 1 :])
    return count


def _settle(
    columns: Sequence[list[_Vertex]],
    hops: Sequence[_Hop],
    vertices: Mapping[str, _Vertex],
    gap: float,
) -> None:
    """Give every vertex its height: lines as level as the order within the layers allows."""
    left: dict[str, list[tuple[str, float]]] = defaultdict(list)
    right: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for hop in hops:
        left[hop.end].append((hop.start, hop.start_offset - hop.end_offset))
        right[hop.start].append((hop.end, hop.end_offset - hop.start_offset))
    tallest = max(sum(one.height + gap for one in column) for column in columns)
    for column in columns:
        height = sum(one.height + gap for one in column)
        middle = (tallest - height) / 2
        for vertex in column:
            vertex.middle = middle + vertex.height / 2
            middle += vertex.height + gap
    for sweep in range(_SWEEPS):
        sides = (left,) if sweep % 3 == 0 else (right,) if sweep % 3 == 1 else (left, right)
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wishes = []
            for vertex in column:
                near = [
                    vertices[other].middle + offset
                    for side in sides
                    for other, offset in side[vertex.id]
                ]
                wishes.append((_mean(near, vertex.middle), 3.0 if vertex.is_bend else 1.0))
            _apart(column, wishes, gap)


def _apart(column: list[_Vertex], wishes: Sequence[tuple[float, float]], gap: float) -> None:
    """Put a layer as near to its wishes as its order and the gaps allow (isotonic regression)."""
    offset, shifts = 0.0, []
    for number, vertex in enumerate(column):
        if number:
            offset += (column[number - 1].height + vertex.height) / 2 + gap
        shifts.append(offset)
    blocks: list[tuple[float, float, int]] = []  # sum of wishes, sum of weights, members
    for (wish, weight), shift in zip(wishes, shifts, strict=True):
        block = ((wish - shift) * weight, weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
            total, weights, members = blocks.pop()
            block = (total + block[0], weights + block[1], members + block[2])
        blocks.append(block)
    place_ = 0
    for total, weights, members in blocks:
        for _ in range(members):
            column[place_].middle = total / weights + shifts[place_]
            place_ += 1
