"""What a student does in a classroom, printed as JSON: run by test_classroom.py with a copy of the package that is read-only."""

import json
import sys
from pathlib import Path

tried = []


def offline(event, arguments):
    """Let nothing reach a network."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        tried.append(str(arguments[-1] if event == "socket.connect" else arguments[0]))
        raise OSError("there is no network in this room")


def error_of(function):
    """Return the type and the text of what a call raises."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the type is what is asked for
        return f"{type(error).__name__}: {error}"
    return "no error"


def tour(mine):
    """Use the data, the weights, a figure, training and recipes; ``mine`` is the only folder that can be written to."""
    import torch

    import ir_helpers
    from ir_helpers import (
        attacks,
        checkpoints,
        datasets,
        figures,
        jobs,
        networks,
        operators,
        recipes,
        store,
        training,
    )

    figures.use_style()
    x = datasets.digits("test", count=2)
    f = networks.pretrained(networks.list_pretrained()[0])
    seen = {"package": str(Path(ir_helpers.__path__[0])), "tables": 0}
    seen["sets"] = [
        len(load("test", count=2)) for load in (datasets.digits, datasets.faces, datasets.ct_slices)
    ]
    for name in store.manifest()["file"]:
        if name.startswith("results/"):
            seen["tables"] += len(store.load_table(name[len("results/") : -len(".csv")])) > 0
    net = networks.pretrained("mnist-gaussian/plain")
    delta = attacks.worst_case(net, net.operator(x), x, 0.5, steps=2)
    seen["attack"] = delta.flatten(1).norm(dim=1).tolist()
    del f
    A, images = operators.gaussian(8, (1, 4, 4)), torch.rand(4, 1, 4, 4)

    def train(checkpoint):
        return training.fit(networks.LinearReconstructor(A), A, images, epochs=1, checkpoint=checkpoint)

    seen["trained"] = len(train(mine / "run.safetensors"))
    seen["resumed"] = len(checkpoints.load(mine / "run.safetensors")["history"])
    weights = {"w": torch.ones(2)}
    data = store.DATA
    seen["errors"] = {
        "weights": error_of(lambda: store.save_weights("mine", weights, {})),
        "checkpoint": error_of(lambda: train(data / "run.safetensors")),
        "hashes": error_of(lambda: recipes.record_hashes(data, ["images/ct.npz"])),
        "jobs": error_of(lambda: jobs.run_all(None, [], jobs.Machine())),
        "download": error_of(lambda: datasets.digits("test", full=True)),
        "portraits": error_of(lambda: datasets.faces("test", full=True)),
    }
    seen["exit"] = recipes.main(["run", "mnist-gaussian"])
    seen["tried"] = tried
    return seen


if __name__ == "__main__":
    sys.addaudithook(offline)  # here only: doctest imports every file of the tests, and a hook stays
    print(json.dumps(tour(Path(sys.argv[1]))))
