"""Breadth-first walks over a graph that is asked for the neighbours of many concepts at a time.

Both stores answer the same small question, so both give the same walks, of any depth: a database's own variable-length
paths stop at 30 steps (LadybugDB) or grow without bound in a dense hierarchy.
"""

from collections.abc import Callable, Collection

Neighbours = Callable[[Collection[str]], dict[str, list[str]]]  # ids -> the neighbours of each, in any order


def reachable(start: Collection[str], neighbours: Neighbours, max_steps: int | None = None) -> dict[str, int]:
    """All concepts that can be reached, with their distance; the start at 0. In the order of distance, then id."""
    distance = dict.fromkeys(sorted(start), 0)
    frontier, steps = list(distance), 0
    while frontier and steps != max_steps:
        steps += 1
        found = {other for others in neighbours(frontier).values() for other in others}
        frontier = sorted(found - distance.keys())
        distance.update(dict.fromkeys(frontier, steps))
    return distance


def shortest_path(start: str, goal: str, neighbours: Neighbours, max_length: int) -> list[str] | None:
    """The ids along a shortest path of at most `max_length` steps, or None. `neighbours` must be symmetric.

    Of several shortest paths the one whose ids, read from the start, come first in the alphabet. Two searches grow
    towards each other, the one with the smaller frontier first, so that a hub is opened only when it has to be.
    """
    if start == goal:
        return [start]
    # For each concept that a search has seen: its neighbours one step nearer to where that search began.
    back: tuple[dict[str, list[str]], dict[str, list[str]]] = ({start: []}, {goal: []})
    frontiers = [{start}, {goal}]
    for _ in range(max_length):
        side = 0 if len(frontiers[0]) <= len(frontiers[1]) else 1
        found: dict[str, list[str]] = {}
        for concept, others in neighbours(sorted(frontiers[side])).items():
            for other in others:
                if other not in back[side]:
                    found.setdefault(other, []).append(concept)
        if not found:
            return None
        back[side].update(found)
        frontiers[side] = set(found)
        # Both searches are complete up to their frontiers, so every shortest path crosses where these meet.
        meeting = frontiers[0] & frontiers[1]
        if meeting:
            return _first_path(start, goal, meeting, *back)
    return None


def edges_between(start: str, goal: str, neighbours: Neighbours, max_length: int) -> list[tuple[str, str]]:
    """The steps that can lie on a walk of at most `max_length` steps between two concepts, each once, in order.

    Both ends are searched half of the way, which finds all of them and others; then those too far off are left out.
    """
    half = max_length // 2
    around: dict[str, set[str]] = {start: set(), goal: set()}
    for end, limit in ((start, max_length - half), (goal, half)):
        seen, frontier = {end}, [end]
        for _ in range(limit):
            found = neighbours(frontier)
            for one, others in found.items():
                for other in others:
                    around.setdefault(one, set()).add(other)
                    around.setdefault(other, set()).add(one)
            frontier = sorted({other for others in found.values() for other in others} - seen)
            seen.update(frontier)

    def known(ids: Collection[str]) -> dict[str, list[str]]:
        return {id: list(around[id]) for id in ids}

    ahead, behind = (reachable([end], known, max_length) for end in (start, goal))
    far = max_length + 1
    return sorted(
        (one, other)
        for one, others in around.items()
        for other in others
        if one < other
        and min(ahead.get(one, far) + behind.get(other, far), ahead.get(other, far) + behind.get(one, far)) < max_length
    )


def _first_path(
    start: str, goal: str, meeting: Collection[str], to_start: dict[str, list[str]], to_goal: dict[str, list[str]]
) -> list[str]:
    onward: dict[str, set[str]] = {}
    layer = set(meeting)
    while start not in layer:
        for concept in layer:
            for earlier in to_start[concept]:
                onward.setdefault(earlier, set()).add(concept)
        layer = {earlier for concept in layer for earlier in to_start[concept]}
    path = [start]
    while path[-1] != goal:
        path.append(min(onward.get(path[-1]) or to_goal[path[-1]]))
    return path
