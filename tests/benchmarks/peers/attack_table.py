"""The table ``benchmarks-attacks.csv``: the error that each search found against the gradients that it evaluated."""

from peers.installed import Unavailable
from peers.searches import SEARCHES
from peers.tables import device_name

__all__ = ["BUDGETS", "measure"]

BUDGETS = (5, 10, 20, 50, 100)


def measure(device="cpu", *, problems, budgets=BUDGETS, searches=SEARCHES, say=print):
    """Return the rows: for each problem, search and budget one as recommended, and one with the best of a few step lengths.

    ``error`` is the mean of the worst errors at points that the search evaluated with at most so many gradients; ``gradients``
    counts those that it took, which may be fewer. The tuned row takes the step that did best *on this very row*: an advantage
    that the searches of this book do not get.
    """
    rows = []
    for problem in problems:
        for name, search in searches.items():
            rows += _rows(problem, name, search, budgets, device)
            say(f"attacks, {problem.name}: {name}")
    return rows


def _rows(problem, name, search, budgets, device):
    common = {"device": device_name(device), "problem": problem.name, "kind": problem.kind, "peer": name}
    common |= {"samples": len(problem.y), "radius": problem.radius, "optimum": problem.optimum}
    try:
        found = [_run(problem, search, budgets, step) for step in search.steps]
    except Unavailable as reason:
        return [common | {"reason": str(reason)}]
    rows = []
    for budget in budgets:
        common["evaluations"] = budget
        rows.append(common | {"setting": "recommended"} | found[0][budget])
        if len(search.steps) > 1:
            rows.append(
                common
                | {"setting": "tuned"}
                | max((each[budget] for each in found), key=lambda row: row["error"])
            )
    return rows


def _run(problem, search, budgets, step):
    """Return {budget: measured} for one step length."""
    if search.prefix:
        watched = search(problem, max(budgets), step)
        counts = {budget: min(budget, watched.evaluations) for budget in budgets}
        return {b: {"step": step, "gradients": counts[b], "error": watched.after(b)} for b in budgets}
    found = {}
    for budget in budgets:
        watched = search(problem, budget, step)
        found[budget] = {"step": step, "gradients": watched.evaluations, "error": watched.worst.mean().item()}
        if watched.evaluations > budget:
            raise RuntimeError(
                f"{watched.evaluations} gradients were taken instead of {budget}: the count is not fair"
            )
    return found
