"""Training: packs of trials, the programs that run them, and the loop that steps them.

A trial is one training with one seed and one set of settings. A network of the sizes that this
project studies fills neither a core nor a GPU, so trials are trained in packs.

A pack (`packs`) is a number of trials whose networks have one shape and which take the same
number of steps. All their parameters lie in one vector, and every tensor of a step has a leading
dimension over trials: images are (trials, samples, channels, height, width), logits are
(trials, samples, classes), a loss is (trials,). One operation then serves all trials at once.

A program (`programs`) runs the forward pass of a pack. There are three. `batched` walks through a
plain stack of layers and runs each of them by a rule that this project wrote for a leading trial
dimension. `stacked` hands any module to `torch.func`, which adds the dimension by itself. `looped`
runs any module for one trial after the other.

On a GPU one training step is recorded once as a CUDA graph and replayed from then on (`capture`),
so that the host launches one thing per step and never waits for the device within an epoch.

Between two steps the whole state of a pack can be captured and restored (`checkpoints`), so that a
pack that was stopped goes on from there with the same numbers.

A trial in a pack is the trial alone. Its numbers depend on its specification and never on its
companions: initial weights, the order of batches and the noise of dropout come from generators
keyed by the seed, the purpose (a layer's name, an epoch) and the step, and not from one stream
that trials would share. They are equal to the bit in any pack. Results agree up to the rounding
of float32 sums, which depend on the order in which an operation adds. A trial that diverges
changes nothing for its companions.

This package knows no Hydra, no store and no tracker.
"""
