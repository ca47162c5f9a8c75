"""A monitor driven by Lightning and by Hugging Face's Trainer, where they are installed."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from harness import Cadence, Monitor
from harness.errors import RequestError

CADENCE = Cadence(share_of_time=None)


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(96, 12, generator=generator), torch.arange(96) % 4)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.SELU(), nn.Linear(24, 4))


@pytest.mark.parametrize(
    "method, modules",
    [
        ("lightning_callback", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
        ("trainer_callback", ["transformers"]),
    ],
)
def test_a_library_that_is_absent_is_named(monkeypatch, method, modules):
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    monitor = Monitor(layers(), data().tensors)
    with pytest.raises(RequestError, match=r"is not installed; pip install"):
        getattr(monitor, method)()


def test_lightning_drives_a_monitor(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

        def training_step(self, batch, index: int) -> torch.Tensor:
            inputs, labels = batch
            return functional.cross_entropy(self(inputs), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.05, momentum=0.5)

    model = Classifier()
    monitor = Monitor(model, data().tensors, cadence=CADENCE)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[monitor.lightning_callback()],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data(), batch_size=16))
    report = monitor.close()
    assert report.summary()["probed_steps"] == [0, 1, 2, 5, 10, 12]
    assert report.stability.margin > 0


def test_hugging_faces_trainer_drives_a_monitor(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("accelerate is not installed, which the Trainer needs")

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers()

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict:
            logits = self.layers(x)
            if labels is None:
                return {"logits": logits}
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    def collate(rows) -> dict[str, torch.Tensor]:
        return {
            "x": torch.stack([row[0] for row in rows]),
            "labels": torch.stack([row[1] for row in rows]),
        }

    model = Classifier()
    monitor = Monitor(model, data().tensors, cadence=CADENCE)
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        per_device_train_batch_size=16,
        optim="sgd",
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        model=model,
        args=settings,
        train_dataset=data(),
        data_collator=collate,
        callbacks=[monitor.trainer_callback()],
    )
    trainer.train()
    report = monitor.close()
    assert report.summary()["probed_steps"] == [0, 1, 2, 5, 10, 12]
    assert report.stability.sharpness > 0
