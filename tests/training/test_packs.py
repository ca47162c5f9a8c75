"""A trial in a pack is the trial alone: weights, batches and noise to the bit, results to rounding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.configuration.schema import known_names
from harness.configuration.trial import Trial
from harness.data.batches import make_source
from harness.networks.architectures import build_network
from harness.networks.hidden_layers import normalizations
from harness.networks.initialization import initialize
from harness.training.events import Evaluated, Finished, PackData, Probed, Samples
from harness.training.feeds import feed
from harness.training.loop import train
from harness.training.optimizers import PackOptimizer, optimizers
from harness.training.packs import Pack
from harness.training.programs import TRAIN
from harness.training.schedules import multiplier, plan

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 10


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (200,), generator=generator)
    prototypes = torch.randn(CLASSES, *SHAPE, generator=generator)
    return prototypes[labels] + 0.5 * torch.randn(200, *SHAPE, generator=generator), labels


def data_for(images: tuple[torch.Tensor, torch.Tensor], trials: int) -> PackData:
    pixels, labels = images
    variant = [0] * trials
    samples = Samples([pixels[130:]], labels[130:], variant)
    return PackData(
        make_source([pixels[:130]], labels[:130], variant, CPU), samples, samples, samples, samples
    )


def run(images, trials: list[Trial], program: str = "auto") -> tuple[Pack, list]:
    pack = Pack(trials, SHAPE, CLASSES, CPU, program)
    data = data_for(images, len(trials))
    return pack, list(train(pack, data, plan(trials[0].spec, 130)))


BUDGET = {
    "budget.epochs": None,
    "budget.steps": 5,
    "budget.batch_size": 32,
    "budget.evaluations": 2,
    "budget.probes": 3,
    "depth": 3,
    "width": 12,
}
SMALL_CNN = {"architecture": "cnn", "width": 6, "architecture.pool": "max"}
CASES = {
    **{
        f"{architecture} {normalization}": {
            "architecture": architecture,
            "normalization": normalization,
        }
        for architecture in ("mlp", "cnn")
        for normalization in normalizations.names()
    },
    **{
        f"after {normalization}": {
            "normalization": normalization,
            "normalization.position": "after",
        }
        for normalization in ("batch", "layer", "rms")
    },
    **{
        f"{architecture} {dropout}": {
            "architecture": architecture,
            "dropout": dropout,
            "dropout.rate": 0.3,
        }
        for architecture in ("mlp", "cnn")
        for dropout in ("alpha", "standard")
    },
    **{optimizer: {"optimizer": optimizer} for optimizer in ("sgd", "adam", "adamw")},
    "pooled": SMALL_CNN,
    "average head": SMALL_CNN | {"architecture.pool": "average", "architecture.head": "average"},
    "circular": SMALL_CNN | {"architecture.padding": "circular"},
}


@pytest.mark.parametrize("case", CASES)
def test_alone_equals_together_in_both_programs(
    images, make_trial: Callable[..., Trial], case: str
):
    changes = BUDGET | CASES[case]
    trials = [make_trial(seed=seed, **changes) for seed in range(3)]
    _, together = run(images, trials)
    alone_pack, alone = run(images, trials[1:2])
    _, stacked = run(images, trials, "stacked")
    for event, lonely, general in zip(together, alone, stacked, strict=True):
        for key, value, expected, other in columns(event, lonely, general):
            # float32 sums in another order; five steps do not amplify them beyond this.
            torch.testing.assert_close(
                value[1:2],
                expected,
                atol=2e-5,
                rtol=2e-3,
                equal_nan=True,
                msg=lambda text: f"{key}: {text}",
            )
            torch.testing.assert_close(
                value,
                other,
                atol=2e-5,
                rtol=2e-3,
                equal_nan=True,
                msg=lambda text: f"{key} stacked: {text}",
            )


def columns(*events) -> list[tuple]:
    if isinstance(events[0], Evaluated):
        return [
            (key, *(getattr(event, key) for event in events))
            for key in ("train_loss", "validation_loss")
        ]
    if isinstance(events[0], Probed):
        return [
            (
                f"{layer.name} {key}",
                layer.columns[key],
                *(event.layers[number].columns[key] for event in events[1:]),
            )
            for number, layer in enumerate(events[0].layers)
            for key in layer.columns
            if not key.endswith(
                ("_share", "_q05", "_q50", "_q95")
            )  # counts and order statistics jump
        ]
    if isinstance(events[0], Finished):
        return [
            (key, *(event.scores[key] for event in events)) for key in ("train_loss", "test_loss")
        ]
    return []


_BETAS = {"optimizer.beta1": 0.8, "optimizer.beta2": 0.99, "optimizer.epsilon": 1e-3}
# Of the trial that is compared, and of a companion that differs in nothing else but its schedule.
OPTIONS = {
    "sgd": ({}, {"schedule.final_share": 0.5}),
    "momentum": ({"optimizer.momentum": 0.7}, {"optimizer.momentum": 0.2}),
    "adam": (_BETAS, {"optimizer.beta1": 0.5}),
    "adamw": (_BETAS, {"optimizer.epsilon": 1e-6}),
}


@pytest.mark.parametrize("optimizer", optimizers.names())
def test_training_is_torchs_own(images, make_trial, optimizer):
    """The same trial written as anyone would, a module, torch.optim, a loop; its companions have other rates, options and schedules."""
    options, others = OPTIONS[optimizer]
    trial = make_trial(
        seed=2,
        optimizer=optimizer,
        schedule="cosine",
        **BUDGET,
        **{"optimizer.weight_decay": 0.02},
        **options,
    )
    companions = [
        make_trial(
            seed=1,
            optimizer=optimizer,
            schedule="cosine",
            **BUDGET,
            **{"optimizer.learning_rate": 0.3},
        ),
        make_trial(seed=2, optimizer=optimizer, schedule="warmup_cosine", **BUDGET, **others),
    ]
    pack, events = run(images, [companions[0], trial, companions[1]])
    assert len(PackOptimizer(pack).runs) == 3
    spec = trial.spec["optimizer"]
    network = build_network(trial.spec, SHAPE, CLASSES)
    initialize(network, trial.spec["initializer"], trial.seed)
    common = {"lr": spec["learning_rate"], "weight_decay": spec["weight_decay"]}
    own = {
        "sgd": lambda p: torch.optim.SGD(p, **common),
        "momentum": lambda p: torch.optim.SGD(p, momentum=0.7, **common),
        "adam": lambda p: torch.optim.Adam(p, betas=(0.8, 0.99), eps=1e-3, **common),
        "adamw": lambda p: torch.optim.AdamW(p, betas=(0.8, 0.99), eps=1e-3, **common),
    }[optimizer](network.parameters())
    data = data_for(images, 1)
    batches = feed(data.source, [trial.seed], plan(trial.spec, 130))
    for step in range(1, 6):
        x, labels = (part[0] for part in next_batch(batches, step - 1))
        own.param_groups[0]["lr"] = spec["learning_rate"] * multiplier(
            trial.spec["schedule"], step, 5
        )
        own.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        own.step()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(
            network(data.validation.images[0]), data.validation.labels
        )
    evaluated = [event for event in events if isinstance(event, Evaluated)][-1]
    assert float(evaluated.validation_loss[pack.order.index(1)]) == pytest.approx(
        float(loss), rel=1e-4
    )


def next_batch(batches, done: int) -> tuple[torch.Tensor, torch.Tensor]:
    batches.prepare(done)
    return batches.take()


def test_initial_weights_and_batches_are_equal_to_the_bit(images, make_trial):
    trials = [
        make_trial(seed=seed, initializer=initializer, **BUDGET)
        for seed in (0, 5)
        for initializer in ("lecun_normal", "orthogonal")
    ]
    together = Pack(trials, SHAPE, CLASSES, CPU)
    schedule = plan(trials[0].spec, 130)
    drawn = [
        (x.clone(), labels.clone())
        for x, labels in (
            next_batch(batches, done)
            for batches in [
                feed(data_for(images, 4).source, [trial.seed for trial in trials], schedule)
            ]
            for done in range(5)
        )
    ]
    for index, trial in enumerate(trials):
        alone = Pack([trial], SHAPE, CLASSES, CPU)
        for name, tensor in alone.state.items():
            assert torch.equal(tensor[0], together.state[name][together.order.index(index)]), name
        own = feed(data_for(images, 1).source, [trial.seed], schedule)
        for done, (x, labels) in enumerate(drawn):
            own_x, own_labels = next_batch(own, done)
            assert torch.equal(own_x[0], x[index])
            assert torch.equal(own_labels[0], labels[index])


@pytest.mark.parametrize("case", CASES)
def test_initial_state_is_equal_to_the_bit_in_every_network(images, make_trial, case):
    trials = [make_trial(seed=seed, **BUDGET | CASES[case]) for seed in (4, 0, 9)]
    together = Pack(trials, SHAPE, CLASSES, CPU)
    for index, trial in enumerate(trials):
        alone, place = Pack([trial], SHAPE, CLASSES, CPU), together.order.index(index)
        for name, tensor in (alone.state | alone.buffers).items():
            assert torch.equal(tensor[0], (together.state | together.buffers)[name][place]), name


@pytest.mark.parametrize("dropout", ["alpha", "standard"])
@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_dropout_noise_is_equal_to_the_bit(make_trial, dropout, program):
    """Zero weights and a bias of one: what leaves the first layer is its mask alone."""
    trials = [
        make_trial(
            seed=seed,
            activation="identity",
            dropout=dropout,
            **{**BUDGET, "depth": 1, "dropout.rate": 0.4},
        )
        for seed in (0, 3, 8)
    ]

    def noise(members: list[Trial], step: int) -> torch.Tensor:
        pack = Pack(members, SHAPE, CLASSES, CPU, program)
        for name, tensor in pack.state.items():
            tensor.detach().fill_(1.0 if name == "layer_01.weights.bias" else 0.0)
        pack.state["readout.weight"].detach().copy_(
            torch.eye(CLASSES, pack.state["readout.weight"].shape[2])
        )
        pack.step.fill_(step)
        return pack.program(
            pack.state, pack.buffers, torch.zeros(len(members), 32, *SHAPE), TRAIN
        ).detach()

    for step in (1, 2):
        together = noise(trials, step)
        assert 0.2 < float((together < 0.5).double().mean()) < 0.6
        for index, trial in enumerate(trials):
            assert torch.equal(noise([trial], step)[0], together[index])
    assert not torch.equal(noise(trials, 1), noise(trials, 2))
    assert not torch.equal(together[0], together[1])


def test_what_may_differ_within_a_pack_changes_no_companion(images, make_trial):
    """Seed, scalars, initializer, activation, dropout rate and what the trial sees, all at once."""
    differing = [
        {"seed": 0},
        {"seed": 5, "optimizer.learning_rate": 0.1},
        {"optimizer.weight_decay": 0.05},
        {"initializer": "orthogonal"},
        {"activation": "tanh", "dropout.rate": 0.5},
        {"initializer": "pytorch_default", "initializer.bias": "uniform", "activation": "relu"},
        {"seed": 7, "activation": "elu", "activation.alpha": 0.5},
    ]
    trials = [make_trial(dropout="alpha", **BUDGET | changes) for changes in differing]
    pixels, labels = images
    doses = (
        torch.tensor([1.0, 1.3, 0.7])[:, None, None, None, None] * pixels[None]
        + torch.tensor([0.0, 0.5, -0.5])[:, None, None, None, None]
    )
    seen = [0, 1, 2, 0, 1, 2, 1]

    def data(variants: list[int]) -> PackData:
        used = sorted(set(variants))
        of_trial = [used.index(variant) for variant in variants]
        samples = Samples(doses[used][:, 130:], labels[130:], of_trial)
        return PackData(
            make_source([doses[variant, :130] for variant in used], labels[:130], of_trial, CPU),
            samples,
            samples,
            samples,
            samples,
        )

    pack = Pack(trials, SHAPE, CLASSES, CPU)
    together = list(
        train(pack, data([seen[given] for given in pack.order]), plan(trials[0].spec, 130))
    )
    for place, given in enumerate(pack.order):
        alone = list(
            train(
                Pack([trials[given]], SHAPE, CLASSES, CPU),
                data([seen[given]]),
                plan(trials[given].spec, 130),
            )
        )
        for event, lonely in zip(together, alone, strict=True):
            for key, value, expected in columns(event, lonely):
                torch.testing.assert_close(
                    value[place : place + 1],
                    expected,
                    atol=3e-5,
                    rtol=3e-3,
                    equal_nan=True,
                    msg=lambda text: f"{differing[given]} {key}: {text}",
                )


DOSES = (130, 40, 97)  # 4, 1 and 3 batches of 32 in an epoch


def dosed_data(images, doses: list[int]) -> PackData:
    """Trial t trains on the first `doses[t]` samples."""
    pixels, labels = images
    used = sorted(set(doses))
    variant = [used.index(dose) for dose in doses]
    training, held_out = (
        Samples([pixels[:dose] for dose in used], labels[: max(used)], variant),
        Samples([pixels[130:]], labels[130:], [0] * len(doses)),
    )
    return PackData(
        make_source(training.images, training.labels, variant, CPU),
        training,
        held_out,
        held_out,
        held_out,
    )


@pytest.mark.parametrize("activation", ["selu", "mixed"])
def test_trials_with_different_doses_of_data_train_side_by_side(images, make_trial, activation):
    """Each sees its own samples in the order in which it sees them alone, and is scored on its own."""
    cases = [(seed, dose) for seed in (0, 3) for dose in DOSES]
    trials = [
        make_trial(
            seed=seed,
            **BUDGET
            | {
                "budget.steps": 7,
                "dataset.training_samples": dose,
                "activation": "selu" if activation == "selu" or dose == 97 else "relu",
            },
        )
        for seed, dose in cases
    ]
    pack = Pack(trials, SHAPE, CLASSES, CPU)
    doses = [cases[given][1] for given in pack.order]
    data, schedule = dosed_data(images, doses), plan(trials[0].spec, 130)
    together = list(train(pack, data, schedule))
    batches = feed(data.source, [trial.seed for trial in pack.trials], schedule)
    drawn = [tuple(part.clone() for part in next_batch(batches, done)) for done in range(7)]
    for place, (trial, dose) in enumerate(zip(pack.trials, doses)):
        own_data = dosed_data(images, [dose])
        own = feed(own_data.source, [trial.seed], schedule)
        for done, (x, labels) in enumerate(drawn):
            own_x, own_labels = next_batch(own, done)
            assert torch.equal(own_x[0], x[place])
            assert torch.equal(own_labels[0], labels[place])
        alone = list(train(Pack([trial], SHAPE, CLASSES, CPU), own_data, schedule))
        for event, lonely in zip(together, alone, strict=True):
            for key, value, expected in columns(event, lonely):
                torch.testing.assert_close(
                    value[place : place + 1],
                    expected,
                    atol=2e-5,
                    rtol=2e-3,
                    equal_nan=True,
                    msg=lambda text: f"{dose} {key}: {text}",
                )


def test_a_diverging_companion_changes_nothing_to_the_bit(images, make_trial):
    calm = [make_trial(seed=seed, **BUDGET) for seed in (0, 1)]
    wild = make_trial(seed=2, **BUDGET, **{"optimizer.learning_rate": 1e30})
    tame = make_trial(seed=2, **BUDGET)
    wild_pack, with_wild = run(images, [calm[0], wild, calm[1]])
    tame_pack, with_tame = run(images, [calm[0], tame, calm[1]])
    finished, reference = with_wild[-1], with_tame[-1]
    places = [(wild_pack.order.index(index), tame_pack.order.index(index)) for index in (0, 2)]
    assert [int(finished.diverged_step[place]) for place, _ in places] == [-1, -1]
    assert int(finished.diverged_step[wild_pack.order.index(1)]) >= 1
    assert torch.isnan(finished.scores["test_accuracy"][wild_pack.order.index(1)])
    for key, value in finished.scores.items():
        assert all(
            torch.equal(value[place], reference.scores[key][other]) for place, other in places
        ), key


def test_a_pack_that_diverged_stops(images, make_trial):
    wild = make_trial(**{**BUDGET, "budget.steps": 200}, **{"optimizer.learning_rate": 1e30})
    _, events = run(images, [wild])
    assert events[-1].step <= 100
    assert 1 <= int(events[-1].diverged_step[0]) <= events[-1].step


def test_activations_and_learning_rates_may_differ_within_a_pack(images, make_trial):
    choices = [("relu", 0.1), ("selu", 0.01), ("tanh", 0.02), ("selu", 0.05)]
    trials = [
        make_trial(activation=name, **BUDGET, **{"optimizer.learning_rate": rate})
        for name, rate in choices
    ]
    pack, events = run(images, trials)
    for position, given in enumerate(pack.order):
        _, alone = run(images, [trials[given]])
        torch.testing.assert_close(
            events[-1].scores["test_loss"][position : position + 1],
            alone[-1].scores["test_loss"],
            rtol=1e-4,
            atol=1e-6,
        )
        for together, own in zip(events, alone):
            if isinstance(together, Probed):
                layer, expected = (
                    together.layers[1].columns["activation_variance"],
                    own.layers[1].columns["activation_variance"],
                )
                torch.testing.assert_close(
                    layer[position : position + 1], expected, rtol=1e-4, atol=1e-8
                )


def test_conf_and_registries_name_the_same_optimizers_and_schedules():
    from harness.training.schedules import schedules

    assert known_names("optimizer") == optimizers.names()
    assert known_names("schedule") == schedules.names()
