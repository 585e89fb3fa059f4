"""The engine: one process leaves everything as it is, two real processes compute what one computes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributed import (
    Engine,
    EngineError,
    hardware_facts,
    launched_engine,
    launched_processes,
    make_engine,
    supports_bfloat16,
)
from vaebm.distributed.engine import SIZES

NUM_PROCESSES = 2
NUM_ROWS = 5


def make_module() -> nn.Module:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 3), nn.SiLU(), nn.Linear(3, 1)).double()
    module.append(nn.Linear(2, 2).float())
    module[0].bias.requires_grad_(False)
    return module


def make_rows() -> Tensor:
    return torch.randn(NUM_ROWS, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def backward(module: nn.Module, rows: Tensor) -> None:
    module[:3](rows).square().mean().backward()


def gradients(module: nn.Module) -> dict[str, list[float] | None]:
    return {name: None if p.grad is None else p.grad.reshape(-1).tolist() for name, p in module.named_parameters()}


def work() -> None:
    """What each of the launched processes does; it prints what it saw."""
    engine = make_engine("fp32", "cpu")
    rows = engine.slice(make_rows())
    module, lonely, empty = make_module(), make_module(), make_module()
    backward(module, rows)
    engine.average_gradients(module, weight=len(rows))
    if engine.is_main:
        backward(lonely, make_rows())
    engine.average_gradients(lonely)
    one_row = engine.slice(make_rows()[:1])
    backward(empty, one_row)
    engine.average_gradients(empty, weight=len(one_row))
    index = torch.tensor(engine.process_index)
    seen = {
        "who": [engine.process_index, engine.num_processes, engine.is_main, str(engine.device)],
        "num_rows": len(rows),
        "gathered": engine.gather(rows).tolist(),
        "types": [
            bool(torch.equal(engine.gather(engine.slice(batch)), batch))
            for batch in (
                torch.arange(4),
                torch.arange(3) % 2 == 0,
                torch.arange(5.0).bfloat16().reshape(5, 1),
                torch.randint(0, 256, (1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
            )
        ],
        "gradients": gradients(module),
        "lonely": gradients(lonely),
        "empty": gradients(empty),
        "mean": engine.mean(index + 0.5).item(),
        "mean_type": str(engine.mean(index.float()).dtype),
        "mean_weighted": engine.mean(torch.full((2,), float(index)), weight=3.0 - 2.0 * index.item()).tolist(),
        "from_main": engine.from_main([engine.process_index + 0.1, math.inf]),
        "mean_without_rows": engine.mean(one_row.mean(), weight=len(one_row)).item(),
    }
    (Path(sys.argv[1]) / f"{engine.process_index}.json").write_text(json.dumps(seen))
    engine.wait()
    engine.close()


def launch(folder: Path) -> list[dict]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    sizes = {"WORLD_SIZE": str(NUM_PROCESSES), "LOCAL_WORLD_SIZE": str(NUM_PROCESSES)}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, **shared, **sizes, "RANK": str(index), "LOCAL_RANK": str(index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(NUM_PROCESSES)
    ]
    try:
        errors = [process.communicate(timeout=60)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(NUM_PROCESSES)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return launch(tmp_path_factory.mktemp("processes"))


def test_two_processes_know_who_they_are(seen: list[dict]) -> None:
    assert [one["who"] for one in seen] == [[0, 2, True, "cpu"], [1, 2, False, "cpu"]]


def test_slices_joined_are_the_batch(seen: list[dict]) -> None:
    assert [one["num_rows"] for one in seen] == [3, 2]
    assert all(one["gathered"] == make_rows().tolist() for one in seen)
    assert all(one["types"] == [True] * 4 for one in seen)


def assert_same_gradients(seen: dict, expected: dict) -> None:
    assert {name for name, value in seen.items() if value is None} == {
        name for name, value in expected.items() if value is None
    }
    for name, value in expected.items():
        if value is not None:
            assert seen[name] == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_averaged_gradients_are_those_of_one_process(seen: list[dict]) -> None:
    module = make_module()
    backward(module, make_rows())
    expected = gradients(module)
    assert expected["0.bias"] is None
    assert expected["3.weight"] is None
    for one in seen:
        assert_same_gradients(one["gradients"], expected)
    assert seen[0]["gradients"] == seen[1]["gradients"]


def test_a_gradient_that_one_process_lacks_counts_as_zero(seen: list[dict]) -> None:
    module = make_module()
    backward(module, make_rows())
    halved = {
        name: None if value is None else [0.5 * number for number in value] for name, value in gradients(module).items()
    }
    for one in seen:
        assert_same_gradients(one["lonely"], halved)


def test_a_process_without_rows_changes_nothing(seen: list[dict]) -> None:
    module = make_module()
    backward(module, make_rows()[:1])
    for one in seen:
        assert_same_gradients(one["empty"], gradients(module))
        assert one["mean_without_rows"] == pytest.approx(make_rows()[:1].mean().item(), rel=1e-14)


def test_mean_over_processes(seen: list[dict]) -> None:
    for one in seen:
        assert one["mean"] == 1.0
        assert one["mean_type"] == "torch.float32"
        assert one["mean_weighted"] == [0.25, 0.25]


def test_what_the_main_process_decides_holds_for_all(seen: list[dict]) -> None:
    assert [one["from_main"] for one in seen] == [[0.1, math.inf]] * 2


def test_one_process_leaves_everything_as_it_is() -> None:
    engine = make_engine("fp32", "cpu")
    batch = make_rows()
    module = make_module()
    backward(module, batch)
    before = gradients(module)
    engine.average_gradients(module)
    engine.wait()
    engine.close()
    assert engine == Engine(torch.device("cpu"), "fp32", 0, 1)
    assert engine.is_main
    assert engine.slice(batch) is batch
    assert torch.equal(engine.gather(batch), batch)
    assert engine.from_main([0.1, math.inf]) == [0.1, math.inf]
    assert engine.mean(batch[0, 0]).item() == batch[0, 0].item()
    assert gradients(module) == before


def test_precision_decides_in_which_type_networks_run() -> None:
    network, images = nn.Linear(4, 3), torch.ones(2, 4)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        engine = make_engine(precision, "cpu")
        with engine.autocast():
            assert network(images).dtype == expected
    assert network(images).dtype == torch.float32


def test_fp32_means_fp32_inside_another_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16), make_engine("fp32", "cpu").autocast():
        assert nn.Linear(4, 3)(torch.ones(2, 4)).dtype == torch.float32


def test_auto_takes_bfloat16_only_where_the_hardware_has_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    if hasattr(torch.cpu, "get_capabilities") and flags:
        assert supports_bfloat16(torch.device("cpu")) == bool({"avx512_bf16", "amx_bf16"} & set(flags))
    engine = make_engine("auto", "cpu")
    assert engine.precision == ("bf16" if supports_bfloat16(torch.device("cpu")) else "fp32")
    assert not supports_bfloat16(torch.device("meta"))
    assert not engine.warning
    assert not make_engine("fp32", "cpu").warning
    assert "--precision fp32" in Engine(torch.device("meta"), "bf16", 0, 1).warning


@pytest.mark.parametrize(
    ("precision", "device", "word"),
    [("fp16", "cpu", "fp16"), ("auto", "gpu", "gpu"), ("auto", "cuda:99", "cuda:99"), ("auto", "meta", "meta")],
)
def test_unknown_choices_are_refused_in_one_line(precision: str, device: str, word: str) -> None:
    with pytest.raises(EngineError, match=word) as caught:
        make_engine(precision, device)
    assert "\n" not in str(caught.value)
    assert "choose" in str(caught.value)


def test_hardware_facts_are_plain_and_true() -> None:
    facts = hardware_facts(torch.device("cpu"))
    assert json.loads(json.dumps(facts)) == facts
    assert 1 <= facts["cores"] <= (os.cpu_count() or 1)
    assert facts["torch_threads"] == torch.get_num_threads()
    assert facts["device"] == "cpu"
    assert facts["cpu"]
    memory = float(facts["memory_gib"])
    assert math.isnan(memory) or memory > 0.1


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
def test_batches_are_dealt_in_order_and_none_is_left_out(count: int) -> None:
    dealt = [Engine(torch.device("cpu"), "fp32", index, 3).deal(count) for index in range(3)]
    assert [place for places in dealt for place in places] == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_a_program_that_runs_alone_makes_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    assert launched_engine() is None


@pytest.mark.parametrize(
    ("size", "rank"),
    [("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
     ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK")],
)  # fmt: skip
def test_processes_that_mpi_starts_are_counted_too(monkeypatch: pytest.MonkeyPatch, size: str, rank: str) -> None:
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(size, "4")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(EngineError, match=f"{size} is 4, but {rank} isn't set"):
        launched_processes()
    monkeypatch.setenv(rank, "3")
    assert launched_processes() == 4
    # As accelerate reads them.
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched_processes() == 1


def test_a_port_in_use_is_one_line() -> None:
    code = "from vaebm.distributed import EngineError, make_engine\ntry:\n    make_engine('fp32', 'cpu')\n"
    code += "except EngineError as error:\n    print(error)\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        variables = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                     "MASTER_PORT": str(taken.getsockname()[1]), "OMP_NUM_THREADS": "1"}  # fmt: skip
        found = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") == 1
    assert "the 2 processes don't find each other at 127.0.0.1:" in found.stdout
    assert "is the port free?" in found.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT isn't set"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
            "RANK is '2', expected 0 to 1",
        ),
    ],
)
def test_a_senseless_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for make in (launched_engine, make_engine):
        with pytest.raises(EngineError, match=message) as caught:
            make()
        assert "torchrun" in str(caught.value)
        assert "\n" not in str(caught.value)


if __name__ == "__main__":
    work()
