"""``python -m peers TABLE... [--device cuda]`` measures and writes the tables data/results/benchmarks-*.csv.

Rows that another device measured stay. The table of the book itself is made by ``python -m peers.book_table``.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

from ir_helpers import store
from peers import attack_table, projection, training_cost
from peers.problems import PROBLEMS, problems
from peers.searches import SEARCHES
from peers.tables import merge, write

OUT = store.DATA / "results"


def projection_table(arguments):
    path = arguments.out / "benchmarks-projection.csv"
    for size in projection.SIZES:  # written after each, since the last take longest
        rows = projection.measure(arguments.device, sizes=[size])
        merge(path, rows, ["device", "size"])


def attacks_table(arguments):
    path, device = arguments.out / "benchmarks-attacks.csv", arguments.device
    names = arguments.problems.split(",") if arguments.problems else PROBLEMS[device.split(":")[0]]
    wanted = tuple(arguments.searches)
    searches = {name: search for name, search in SEARCHES.items() if name.startswith(wanted)}
    for name in names:
        try:
            attacked = list(problems([name], device, images=arguments.images))
        except store.DataError as reason:
            print(f"no attack on {name}: {reason}")
            continue
        for problem in attacked:
            rows = attack_table.measure(device, problems=[problem], searches=searches)
            merge(path, rows, ["device", "problem", "peer"])


def training_table(arguments):
    write(arguments.out / "benchmarks-training.csv", training_cost.training())


def scale_table(arguments):
    try:
        scaling = store.load_table("ct-scaling")
    except store.DataError as reason:
        print(f"no estimate of large data sets: {reason}")
        return
    write(arguments.out / "benchmarks-scale.csv", training_cost.estimate(scaling))


TABLES = {
    "projection": projection_table,
    "attacks": attacks_table,
    "training": training_table,
    "scale": scale_table,
}


def main():
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; none: all")
    parser.add_argument("--device", default="cpu", help="where to measure: cpu, cuda, cuda:1")
    parser.add_argument("--images", type=int, default=100, help="test images under attack; of CT at most 16")
    parser.add_argument(
        "--problems",
        help="what is attacked, with commas: linear, or any network of data/weights (default: those of the table)",
    )
    parser.add_argument(
        "--searches", nargs="+", default=[""], help="who searches: all whose name begins so (default: all)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the tables (default: data/results)")
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {', '.join(sorted(unknown))}: choose from {', '.join(TABLES)}")
    warnings.simplefilter("ignore")  # the peers' own, and ours about their settings
    logging.disable(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.tables or TABLES:
        begin = time.perf_counter()
        TABLES[name](arguments)
        print(f"{name}: {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
