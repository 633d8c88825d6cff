"""Times our stage-2 step beside a PyTorch step of the same networks, losses, optimizers and batch.

    python benchmarks/pytorch_step.py --output=docs/results/performance/pytorch.json

Needs `benchmarks/requirements.txt`. Run it while nothing else does. The PyTorch side is written for this comparison: the
generator of 16 channels with its class conditioning, the discriminator and a ResNet-20 in inference mode with batch
normalisation folded away, in channels-last layout, plain and by `torch.compile`; each framework in a process of its own, in
float32 and in bfloat16 (autocast there, --mixed_precision here). That both have the same parameters is checked.
"""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import itertools

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 10, "timed repetitions of each", lower_bound=1)
_SIDE = flags.DEFINE_enum("side", "both", ["both", "tensorflow", "pytorch"], "what to time; both: each in its process")

BATCH = 128
CLASSES = 10
EPSILON = 8 / 255
GAN_WEIGHT, HINGE_WEIGHT = 0.02, 0.1


def tensorflow_side() -> dict:
    """Times the package's own step."""
    import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
    import keras
    import numpy as np
    import tensorflow as tf
    from peak_memory import tensors_mib

    from aigan_tf.build import build_aigan
    from aigan_tf.classifiers import architectures
    from aigan_tf.config import make_config
    from aigan_tf.data.datasets import ImageDataset
    from aigan_tf.data.splits import Split
    from aigan_tf.engine.precision import MixedPrecision

    config = make_config(
        dataset="cifar10", classifier="resnet20", generator_width=16, gan_weight=GAN_WEIGHT, hinge_weight=HINGE_WEIGHT
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)
    split = Split(images, generator.integers(0, CLASSES, BATCH, dtype=np.int32))
    dataset = ImageDataset("random", tuple("0123456789"), split, split, split)
    keras.utils.set_random_seed(0)
    classifier = architectures.build("resnet20", dataset.image_shape, CLASSES)
    batch = tf.constant(split.as_float()), tf.constant(split.labels)
    seconds, peaks = {}, {}
    for name, mixed in (("float32", False), ("bfloat16", True)):
        aigan = build_aigan(config, dataset, architectures.frozen(classifier), 10_000)
        aigan.stage = 2
        step = tf.function(aigan.train_step)
        with MixedPrecision(mixed, (aigan.generator, aigan.discriminator)):

            def run(step=step):
                return step(batch)["generator_loss"].numpy()

            seconds[name], peaks[name] = timing.median_seconds(run, _STEPS.value), tensors_mib(run)
    trainable = {"generator": aigan.generator, "discriminator": aigan.discriminator, "classifier": classifier}
    parameters = {
        name: sum(int(tf.size(variable)) for variable in network.trainable_variables)
        for name, network in trainable.items()
    }
    return {
        "version": tf.__version__,
        "parameters": parameters,
        "seconds": seconds,
        "peak_mib": peaks,
        **timing.machine(),
    }


def pytorch_side() -> dict:
    """Times the same step in PyTorch."""
    import time

    import numpy as np
    import torch
    from peak_memory import resident_mib
    from torch import nn
    from torch.nn import functional

    class Conditional(nn.Module):
        def __init__(self, inputs, filters, strides=1, activation=True):
            super().__init__()
            self.conv = nn.Conv2d(inputs, filters, 3, strides, 1, bias=False)
            self.norm = nn.BatchNorm2d(filters, affine=False, momentum=0.1)
            self.film = nn.Linear(64, 2 * filters)
            self.activation = activation

        def forward(self, features, condition, skip=None):
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            features = self.conv(features) if skip is None else self.upsampled(features, skip)
            features = self.norm(features) * (1 + scale) + shift
            return functional.relu(features) if self.activation else features

        def upsampled(self, features, skip):
            """The convolution of the upsampled features beside the skip connection: as in `UpsampledConvolution`."""
            upsampled, kept = self.conv.weight.split([features.shape[1], skip.shape[1]], dim=1)
            flipped = upsampled.flip(2, 3).transpose(0, 1)
            kernel = sum(functional.pad(flipped, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1))
            return functional.conv_transpose2d(features, kernel, stride=2, padding=1) + functional.conv2d(
                skip, kept, padding=1
            )

    class Residual(nn.Module):
        def __init__(self, filters):
            super().__init__()
            self.first = Conditional(filters, filters)
            self.second = Conditional(filters, filters, activation=False)

        def forward(self, features, condition):
            return functional.relu(features + self.second(self.first(features, condition), condition))

    class Generator(nn.Module):
        def __init__(self, width=16):
            super().__init__()
            self.embedding = nn.Embedding(CLASSES, 64)
            self.stem = Conditional(3, width)
            self.downs = nn.ModuleList([Conditional(width, 2 * width, 2), Conditional(2 * width, 4 * width, 2)])
            self.blocks = nn.ModuleList([Residual(4 * width) for _ in range(4)])
            self.ups = nn.ModuleList([Conditional(6 * width, 2 * width), Conditional(3 * width, width)])
            self.head = nn.Conv2d(width, 3, 3, padding=1)

        def forward(self, images, classes):
            condition = self.embedding(classes)
            features = self.stem(2 * images - 1, condition)
            skips = []
            for down in self.downs:
                skips.append(features)
                features = down(features, condition)
            for block in self.blocks:
                features = block(features, condition)
            for up, skip in zip(self.ups, reversed(skips), strict=True):
                features = up(features, condition, skip)
            return self.head(features)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            widths = (3, 16, 32, 64)
            self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths)])
            self.head = nn.Linear(64, 1)

        def forward(self, images):
            features = 2 * images - 1
            for conv in self.convs:
                features = functional.leaky_relu(conv(features), 0.2)
            return self.head(features.mean(dim=(2, 3)))[:, 0]

    class Project(torch.autograd.Function):
        """Clamps; what would push a value further out gets no gradient."""

        @staticmethod
        def forward(ctx, values, low, high):
            ctx.save_for_backward(values)
            ctx.limits = low, high
            return values.clamp(low, high)

        @staticmethod
        def backward(ctx, upstream):
            (values,), (low, high) = ctx.saved_tensors, ctx.limits
            outwards = ((values >= high) & (upstream < 0)) | ((values <= low) & (upstream > 0))
            return upstream.masked_fill(outwards, 0.0), None, None

    class Block(nn.Module):
        """Of a ResNet whose batch normalisation is folded into the convolutions."""

        def __init__(self, inputs, filters, strides):
            super().__init__()
            self.first = nn.Conv2d(inputs, filters, 3, strides, 1)
            self.second = nn.Conv2d(filters, filters, 3, padding=1)
            self.strides = strides

        def forward(self, x):
            y = self.second(functional.relu(self.first(x)))
            if self.strides == 2:
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, x.shape[1] // 2, x.shape[1] // 2))
            return functional.relu(x + y)

    def resnet20():
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
        inputs = 16
        for filters in (16, 32, 64):
            for block in range(3):
                layers.append(Block(inputs, filters, 2 if filters > 16 and block == 0 else 1))
                inputs = filters
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))

    torch.manual_seed(0)
    generator, discriminator, classifier = (
        network.to(memory_format=torch.channels_last) for network in (Generator(), Discriminator(), resnet20())
    )
    classifier.eval().requires_grad_(False)

    def matrix(kernel):
        """A kernel, or its gradient, as `(out, height * width * in)`, a view in channels-last layout: Muon takes no others."""
        return kernel.permute(0, 2, 3, 1).reshape(kernel.shape[0], -1)

    # Each kernel with the matrix that shares its memory and is what the optimizer knows of it.
    kernels = [(p, nn.Parameter(matrix(p.detach()))) for p in generator.parameters() if p.ndim == 4]
    for kernel, its_matrix in kernels:
        assert its_matrix.data_ptr() == kernel.data_ptr(), "a copy would not move the kernel"
    optimizers = [
        torch.optim.Muon(
            [its_matrix for _, its_matrix in kernels], 1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.Adam([p for p in generator.parameters() if p.ndim != 4], 1e-2, betas=(0.5, 0.999)),
        torch.optim.Adam(discriminator.parameters(), 2e-4, betas=(0.5, 0.999)),
    ]
    images = torch.rand(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    classes = torch.randint(0, CLASSES, (BATCH,))
    threshold = 0.5 * EPSILON * np.sqrt(3 * 32 * 32)

    def losses(mixed):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            directions = generator(images, classes)
        perturbations = EPSILON * Project.apply(directions.float(), -1, 1)
        adversarial_images = Project.apply(images + perturbations, 0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = classifier(adversarial_images)
            fake_logits = discriminator(adversarial_images)
            real_logits = discriminator(images)
        norms = perturbations.square().sum(dim=(1, 2, 3)).add(1e-12).sqrt()
        generator_loss = (
            functional.cross_entropy(logits.float(), classes)
            + GAN_WEIGHT * functional.softplus(-fake_logits.float()).mean()
            + HINGE_WEIGHT * functional.relu(norms - threshold).mean()
        )
        discriminator_loss = (
            functional.softplus(-real_logits.float()).mean() + functional.softplus(fake_logits.float()).mean()
        )
        return generator_loss, discriminator_loss

    def stepping(compute, mixed):
        def step():
            generator_loss, discriminator_loss = compute(mixed)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            # Each loss moves its own network alone, though both hang on the same forward pass.
            gradients = torch.autograd.grad(generator_loss, list(generator.parameters()), retain_graph=True)
            own = torch.autograd.grad(discriminator_loss, list(discriminator.parameters()))
            for parameter, gradient in zip(
                [*generator.parameters(), *discriminator.parameters()], [*gradients, *own], strict=True
            ):
                parameter.grad = gradient
            for kernel, its_matrix in kernels:
                its_matrix.grad = matrix(kernel.grad)
            for optimizer in optimizers:
                optimizer.step()
            return generator_loss.item()

        return step

    seconds, peaks, failed = {}, {}, {}

    def measure(name, step):
        times = []
        for _ in range(_STEPS.value + 3):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        seconds[name], peaks[name] = float(np.median(times[3:])), resident_mib(step)

    for name, mixed in (("float32", False), ("bfloat16", True)):
        measure(name, stepping(losses, mixed))
        try:
            measure(f"{name}, torch.compile", stepping(torch.compile(losses), mixed))
        except Exception as error:  # it needs a C++ compiler, and may refuse a graph: said, not hidden
            failed[f"{name}, torch.compile"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    parameters = {
        "generator": sum(p.numel() for p in generator.parameters()),
        "discriminator": sum(p.numel() for p in discriminator.parameters()),
    }
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "seconds": seconds,
        "peak_mib": peaks,
        "failed": failed,
    }


def main(_):
    if _SIDE.value != "both":
        print(json.dumps(tensorflow_side() if _SIDE.value == "tensorflow" else pytorch_side()))
        return
    sides = {}
    for side in ("tensorflow", "pytorch"):
        command = [sys.executable, __file__, f"--side={side}", f"--steps={_STEPS.value}"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        sides[side] = json.loads(ran.stdout.splitlines()[-1])
    for network, count in sides["pytorch"]["parameters"].items():
        if sides["tensorflow"]["parameters"][network] != count:
            sys.exit(
                f"error: the {network}s have {sides['tensorflow']['parameters'][network]} and {count} parameters; expected the "
                "same network on both sides"
            )
    for side, result in sides.items():
        for name, seconds in result["seconds"].items():
            print(f"{side:11s} {name:26s} {1000 * seconds:8.1f} ms")
        for name, reason in result.get("failed", {}).items():
            print(f"{side:11s} {name:26s} failed: {reason}")
    if _OUTPUT.value:
        import timing

        timing.save({"batch_size": BATCH, **sides}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
