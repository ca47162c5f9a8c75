"""The page of a diagnosis: hostile names are escaped, and equal cards give equal bytes."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from harness import diagnose

HOSTILE = "Net<script>alert('x')</script>"


def card():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.SELU(), torch.nn.Linear(8, 8), torch.nn.SELU()
    )
    type_with_hostile_name = type(HOSTILE, (torch.nn.Module,), {})
    model = type_with_hostile_name()
    model.network = network
    model.forward = network.forward
    data = TensorDataset(torch.randn(64, 6), torch.zeros(64, dtype=torch.long))
    return diagnose(model, DataLoader(data, batch_size=32))


def test_hostile_names_are_escaped_and_equal_cards_give_equal_pages():
    page = card().html()
    assert HOSTILE in str(card())
    assert "<script" not in page
    assert "Net&lt;script&gt;" in page
    assert "src=" not in page.replace('src="data:image/png;base64,', "")
    assert card().html() == page
