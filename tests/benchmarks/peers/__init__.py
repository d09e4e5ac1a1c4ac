"""The book's tools against what a reader would use instead: `make bench` runs ``python -m peers`` and writes the tables.

Nothing of this is installed with ``ir_helpers``. The peers live in an environment of their own, made from
``tests/benchmarks/requirements.txt``.
"""
