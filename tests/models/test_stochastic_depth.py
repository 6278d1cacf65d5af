"""Stochastic depth and the truncated normal distribution."""

import subprocess
import sys

import pytest
import torch
from helpers.script_tools import ROOT

from mmseg.models.stochastic_depth import DropPath, truncated_normal_


def test_whole_samples_are_left_out_and_the_mean_stays():
    torch.manual_seed(0)
    branch = torch.ones(4000, 2, 3)
    dropped = DropPath(0.2).train()(branch)
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert dropped.unique().tolist() == [0, 1.25]
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert DropPath(0.2).eval()(branch) is branch
    assert DropPath(0.0).train()(branch) is branch


def test_a_seed_gives_the_numbers_of_timm():
    """Recorded from ``timm.layers``, which the published training used."""
    torch.manual_seed(1)
    assert truncated_normal_(torch.empty(4), std=0.02).tolist() == pytest.approx(
        [
            0.013974087312817574,
            -0.011697798036038876,
            -0.004908211994916201,
            0.012540859170258045,
        ],
        rel=1e-5,
    )
    torch.manual_seed(1)
    assert DropPath(0.4).train()(torch.ones(8, 1)).flatten().tolist() == pytest.approx(
        [1.666667, 1.666667, 1.666667, 1.666667, 1.666667, 1.666667, 1.666667, 0.0]
    )
    wide = truncated_normal_(torch.empty(10000), std=2.0)
    assert wide.abs().max() <= 2
    assert (wide.abs() > 1.9).any()


def test_a_training_imports_no_compiler():
    """``torch._dynamo``, which torchvision and so timm import, takes longer than torch itself."""
    code = "import sys, mmseg.apis.training; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
