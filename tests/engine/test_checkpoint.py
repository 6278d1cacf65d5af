"""Reading weight files, writing and removing checkpoints."""

import pickle

import pytest
import torch
from torch import nn

from mmseg.engine.checkpoint import load_training, save_checkpoint
from mmseg.errors import CheckpointError
from mmseg.models.weights import load_file, load_weights_file
from mmseg.work_dir.layout import WorkDir


class Trap:
    """Unpickling it would run code."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_files_that_are_not_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    with pytest.raises(CheckpointError, match=r"w\.pth does not exist; look there"):
        load_file(path, "look there")
    path.write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match=r"is not a torch file \(it starts with '<html>404"):
        load_file(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is not a torch file"):
        load_file(path)
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="is cut short or damaged"):
        load_file(path)


@pytest.mark.parametrize("write", [lambda content, path: torch.save(content, path), None])
def test_code_in_a_file_does_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    if write:
        write({"state_dict": {"a": torch.zeros(1)}, "meta": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="holds more than tensors and plain data") as caught:
        load_file(path)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_no_state_dict(tmp_path):
    torch.save({"state_dict": {"a": 3}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_weights_file(tmp_path / "w.pth")


def saved(folder, iteration, keep=None, **options):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    save_checkpoint(folder / f"iter_{iteration}.pth", model, optimizer, iteration, {}, keep, **options)
    return model, optimizer


def test_the_newest_are_kept_and_later_ones_untouched(tmp_path):
    for iteration in (40, 1, 2, 3, 4):
        saved(tmp_path, iteration, keep=2)
    assert [p.name for p in WorkDir(tmp_path).checkpoints()] == ["iter_3.pth", "iter_4.pth", "iter_40.pth"]
    saved(tmp_path, 5, keep=7)
    assert len(WorkDir(tmp_path).checkpoints()) == 4


def test_checkpoints_in_between_do_not_count(tmp_path):
    """They are written before evaluations, and replaced by the next checkpoint."""
    found = []
    for iteration in range(2, 13, 2):
        saved(tmp_path, iteration, keep=2, counts=lambda iteration: iteration % 4 == 0)
        found.append([int(path.stem.removeprefix("iter_")) for path in WorkDir(tmp_path).checkpoints()])
    assert found == [[2], [4], [4, 6], [4, 8], [4, 8, 10], [8, 12]]


def test_rates_come_from_the_config_on_resuming(tmp_path):
    saved(tmp_path, 3)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.25)
    assert load_training(tmp_path / "iter_3.pth", model, optimizer) == {"iter": 3}
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.5, 0.25)


def test_optimizer_state_moves_to_the_device_that_the_optimizer_needs(tmp_path):
    """Fused kernels need the number of updates in float32 next to the weights; others leave it on the host."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for state in optimizer.state.values():
        state["step"] = state["step"].double()
    save_checkpoint(tmp_path / "iter_1.pth", model, optimizer, 1, {})
    fused = torch.optim.AdamW(model.parameters(), fused=True)
    load_training(tmp_path / "iter_1.pth", model, fused)
    assert fused.param_groups[0]["fused"]
    assert {state["step"].dtype for state in fused.state.values()} == {torch.float32}
    fused.step()
    assert {state["step"].item() for state in fused.state.values()} == {2}


def test_an_optimizer_of_other_groups(tmp_path):
    model, _ = saved(tmp_path, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    with pytest.raises(CheckpointError, match=r"the optimiser state in .*iter_1\.pth does not fit"):
        load_training(tmp_path / "iter_1.pth", model, torch.optim.AdamW(groups))


def test_no_training_checkpoint(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "w.pth")
    model = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="is not a training checkpoint; to start from its weights, use load_from"):
        load_training(tmp_path / "w.pth", model, torch.optim.AdamW(model.parameters()))
