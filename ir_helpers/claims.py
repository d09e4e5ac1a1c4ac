"""The claims that the book measures: their wording, their themes, and the numbers that stand for each in the ledger."""

CLAIMS = {
    "unstable-tiny": "A tiny perturbation in the image domain gives severe artefacts in a deep reconstruction.",
    "unstable-structure": "A small structural change is not recovered.",
    "unstable-samples": "More measurement samples do not improve the recovery.",
    "range-only": "A perturbation of x perturbs y inside Range(A) only, so it misses perturbations of y "
    "unless A has full row rank.",
    "ill-conditioned": "For an ill-conditioned A the ideal inverse is highly vulnerable to small perturbations of y, "
    "and the x-space view misses it.",
    "operator-mismatch": "A mismatch Ã = A + E perturbs y by E x, typically outside Range(A).",
    "per-sample-expensive": "The per-sample inner maximisation is very expensive in training.",
    "common-suboptimal": "One common perturbation is tractable but a worse defence.",
    "generator-specific": "A well-trained G gives sample-specific, near-optimal perturbations from y alone.",
    "mnist-robust": "Compressed sensing on MNIST: the min-max network is more robust than none, weight decay, Parseval.",
    "faces-robust": "The same on faces.",
    "ct-robust": "The same for FBPConvNet on low-dose CT with 143 views.",
    "regularised-vulnerable": "Conventionally trained, and even regularised, networks are vulnerable.",
    "theorem": "The min-max optimal linear reconstruction is a filtered pseudo-inverse, and training converges to it.",
    "trade-off": "Without perturbation the true inverse wins; under a small one it degrades severely, "
    "the filtered one does not.",
    "conditioning": "The behaviour depends on the conditioning of A.",
}
VERDICTS = ("holds", "holds in part", "does not hold here")

# What the ledger groups together: the order in which the book comes to it.
THEMES = {
    "Are learned reconstructions unstable?": (
        "unstable-tiny",
        "unstable-structure",
        "unstable-samples",
        "regularised-vulnerable",
    ),
    "Where does a perturbation belong?": ("range-only", "ill-conditioned", "operator-mismatch"),
    "Which adversary should sit in the training?": (
        "per-sample-expensive",
        "common-suboptimal",
        "generator-specific",
    ),
    "Does min-max training make networks more robust?": (
        "mnist-robust",
        "faces-robust",
        "ct-robust",
        "conditioning",
    ),
    "What does the theory say?": ("trade-off", "theorem"),
}

# A page may rest its verdict on a dozen numbers. These tell the story, by the names that the page gives them.
# A claim without an entry shows its first three.
HEADLINES = {
    "unstable-tiny": (
        "digits: change / ‖r‖ at 5 %, plain",
        "digits: change / ‖r‖ at 5 %, total-variation",
        "CT: change / ‖r‖ at 5 %, plain",
    ),
    "unstable-structure": (
        "digits: contrast left of the dot, plain",
        "digits: contrast left of the dot, total-variation",
        "CT: contrast left of the text, plain",
    ),
    "unstable-samples": (
        "digits: squared error from 100 data, plain",
        "digits: squared error from 300 data, plain",
        "CT: error from twice the views / error, plain",
    ),
    "regularised-vulnerable": (
        "ρ(2) / clean error, plain",
        "ρ(2) / clean error, weight-decay",
        "ρ(2) / clean error, parseval",
    ),
    "range-only": (
        "share of A r outside the range",
        "share of white noise outside, CT",
        "share of white noise outside, Gaussian of full row rank",
    ),
    "ill-conditioned": (
        "condition number 1000: error per unit of δ, y-view",
        "condition number 1000: error per unit of r, x-view",
        "CT full, FBP: relative amplification, y-view",
    ),
    "operator-mismatch": (
        "share of E x outside, tube, 2 %",
        "share of E x outside, axis, 0.5 bins",
        "share of E x outside, angle, 1°",
    ),
    "per-sample-expensive": (
        "cost of ten steps, in plain trainings",
        "cost of the cheapest search with 80 % of their gain, full problem",
    ),
    "common-suboptimal": (
        "cost, in plain trainings",
        "gain over that of the tuned search, full problem, three seeds",
    ),
    "generator-specific": (
        "damage by G(y), of the search's, fixed f",
        "the same with the δ of another digit",
        "the best that y alone allows (blind search)",
    ),
    "mnist-robust": (
        "ρ(2) of min-max / best rival",
        "clean error of min-max / plain",
        "gradient evaluations of min-max / per-sample",
    ),
    "faces-robust": (
        "ρ(0.1) of min-max / best rival",
        "clean error of min-max / plain",
        "way towards a double, min-max / plain",
    ),
    "ct-robust": (
        "PSNR at ε in dB, plain",
        "PSNR at ε in dB, min-max",
        "loss of min-max without perturbation in dB",
    ),
    "conditioning": (
        "ρ(2) of min-max / plain, Gaussian",
        "ρ(2) of min-max / plain, DCT block",
        "saved by min-max, condition number 1000 less condition number 1",
    ),
    "trade-off": (
        "inverse, exact data",
        "inverse, disturbed",
        "filtered, disturbed",
    ),
    "theorem": (
        "convex solver, largest relative distance",
        "training, largest relative distance of the averages",
    ),
}


def headline(row):
    """Return the two or three numbers that stand for a verdict, by name.

    Parameters
    ----------
    row : dict
        One row of ``claims.json``.

    Returns
    -------
    dict of str to float
        Those that ``HEADLINES`` names, as far as the page measured them, or else its first three.
    """
    if missing := {"id", "figures"} - set(row):
        raise ValueError(f"row must be one of claims.json, it has no {sorted(missing)}")
    chosen = [name for name in HEADLINES.get(row["id"], ()) if name in row["figures"]]
    return {name: row["figures"][name] for name in chosen or list(row["figures"])[:3]}
