"""Many jobs, each once: order, resumption, devices, and what a failure leaves behind."""

import json
import os

import pytest

from ir_helpers.jobs import Machine, run_all


def square(job, folder, device):
    (folder / f"ran-{job['name']}-{os.getpid()}").touch()
    return {"value": job["number"] ** 2, "device": device}


def fail_at_two(job, folder, device):
    if job["number"] == 2:
        raise RuntimeError("two is not possible")
    return square(job, folder, device)


def numbers(count):
    return [{"name": f"n{k}", "number": k} for k in range(count)]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_jobs(tmp_path, workers):
    results = run_all(square, numbers(4), Machine(("a", "b"), workers, tmp_path))
    assert [result["value"] for result in results] == [0, 1, 4, 9]
    assert [result["device"] for result in results] == ["a", "b", "a", "b"]


def test_a_finished_job_is_not_run_again(tmp_path):
    machine = Machine(folder=tmp_path)
    first = run_all(square, numbers(2), machine)
    assert run_all(square, numbers(3), machine)[:2] == first
    assert len(list(tmp_path.glob("ran-*"))) == 3


def test_other_settings_are_another_job(tmp_path):
    machine = Machine(folder=tmp_path)
    run_all(square, [{"name": "n", "number": 2}], machine)
    assert run_all(square, [{"name": "n", "number": 3}], machine)[0]["value"] == 9


def test_a_failure_is_raised_and_the_others_are_kept(tmp_path):
    with pytest.raises(RuntimeError, match="two is not possible"):
        run_all(fail_at_two, numbers(3), Machine(folder=tmp_path))
    kept = [json.loads(path.read_text())["value"] for path in tmp_path.glob("*.json")]
    assert {0, 1} <= set(kept) and not list(tmp_path.glob("*.part"))
