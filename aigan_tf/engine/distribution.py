"""Training on several devices or in several processes, by TensorFlow's strategies.

Keras's `fit` fails with several processes (it averages the first batch over replicas to build the model, which fails if
a process has one replica: github.com/keras-team/keras/issues/20585), so the loop around `strategy.run` stands here, for
both cases. It computes what one device computes on the whole batch, up to the order of sums: losses are divided by the
number of replicas, batch normalisation uses the statistics of the whole batch, and each replica takes its own rows of
what is drawn for the batch.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from aigan_tf.errors import InputError

STRATEGIES = ("none", "mirrored", "multiworker")


class _StepCounter(keras.callbacks.Callback):
    """Counts the steps that ran, in whatever number of fits."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1


class Devices:
    """The devices of a run.

    Args:
        name: none (one device), mirrored (all GPUs of this machine, or all logical CPU devices if there is no GPU) or
            multiworker (one process for each worker in the environment variable TF_CONFIG, as TensorFlow reads it). The
            last must be created before TensorFlow computes anything.

    Raises:
        InputError: the name is unknown, there is one CPU and no GPU to mirror on, TF_CONFIG is missing or unusable, or its
            port is taken.
    """

    def __init__(self, name: str = "none"):
        if name not in STRATEGIES:
            raise InputError(name, " or ".join(STRATEGIES), "choose one of them", setting="strategy")
        self.is_chief = True
        if name == "none":
            self.strategy = tf.distribute.get_strategy()
        elif name == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            if devices[0].device_type == "CPU" and len(devices) == 1:
                raise InputError(name, "a GPU", "leave it out", setting="strategy", problem="finds no GPU")
            self.strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        else:
            self.strategy = self._multiworker()
        self.distributed = name != "none"

    def _multiworker(self):
        form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        try:
            config = json.loads(os.environ.get("TF_CONFIG", ""))
            task = config["task"]
            self.is_chief = task["type"] == "chief" or ("chief" not in config["cluster"] and int(task["index"]) == 0)
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            address = config["cluster"][task["type"]][int(task["index"])]
            raise InputError(
                f"{address}, this process's address in the environment variable TF_CONFIG, cannot be used",
                "a free port of this machine",
                "end the process that has it, or choose another port",
            ) from error
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"the environment variable TF_CONFIG cannot be used ({error})",
                f"{form} in each process",
                "set it to such JSON",
            ) from error

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    @contextlib.contextmanager
    def synchronized(self):
        """Waits at the block's start and at its end until all processes are there.

        Raises:
            InputError: another process has ended.
        """
        try:
            self._barrier()
            yield
            self._barrier()
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            raise InputError(
                "another process of this run has ended",
                "all of them to stay until the end",
                "correct what its own output says, and start all of them again",
            ) from error

    def _barrier(self):
        def arrive():
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.ones(()))

        if self.distributed:
            self.strategy.run(tf.function(arrive))

    def distribute(self, batches: tf.data.Dataset) -> tf.distribute.DistributedDataset:
        """Returns batches split in their order among the replicas.

        Args:
            batches: of `(images, labels)`, the same in every process. If the number of replicas does not divide a batch,
                the last replica gets fewer images, or none.
        """

        def of_this_process(context):
            local = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * local

            def parts(images, labels):
                size = -(-tf.shape(labels)[0] // context.num_replicas_in_sync)

                def rows(replica):
                    replica = tf.cast(replica, tf.int32)
                    chosen = slice(replica * size, (replica + 1) * size)
                    return images[chosen], labels[chosen]

                return tf.data.Dataset.range(first, first + local).map(rows)

            return batches.flat_map(parts).prefetch(2 * local)

        return self.strategy.distribute_datasets_from_function(of_this_process)

    def fit(
        self,
        model: keras.Model,
        batches_from: Callable[[int], tf.data.Dataset],
        steps_per_epoch: int,
        steps_done: int,
        epochs: int,
        validation_data: tf.data.Dataset,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Trains like `model.fit`, but on all replicas and from any step on.

        Args:
            model: compiled, created in the strategy's scope.
            batches_from: the number of steps done to the batches that follow, already shuffled.
            steps_per_epoch: steps of a whole epoch.
            steps_done: steps done before. The rest of an epoch comes first.
            epochs: epochs of the whole run, those done before included.
            validation_data: measured at the end of each epoch.
            callbacks: as in Keras; one of them shows progress.

        Raises:
            InputError: fewer steps ran than these, and no callback set `model.stop_training`.
        """
        counter, model.stop_training = _StepCounter(), False
        fit = functools.partial(self._fit, model) if self.distributed else functools.partial(model.fit, shuffle=False)
        begun, step = divmod(steps_done, steps_per_epoch)
        # All epochs of one Keras fit have as many steps: the rest of an epoch is a fit of its own.
        whole = begun + 1 if step else begun
        for first, last, steps in ((begun, whole, steps_per_epoch - step), (whole, epochs, steps_per_epoch)):
            if first < last and not model.stop_training:  # a fit would forget that
                fit(
                    batches_from((first + 1) * steps_per_epoch - steps), steps_per_epoch=steps, initial_epoch=first,
                    epochs=last, validation_data=validation_data, callbacks=[counter, *callbacks], verbose=0,
                )  # fmt: skip
        steps_done += counter.steps
        if steps_done < epochs * steps_per_epoch and not model.stop_training:
            # Keras's global limits, which its environment variables, a notebook or a model may have set.
            raise InputError(
                f"training ended after {steps_done} of {epochs * steps_per_epoch} steps",
                "all of them",
                "unset KERAS_MAX_EPOCHS and KERAS_MAX_STEPS_PER_EPOCH, and repeat it in a new process",
            )

    def _fit(self, model, batches, steps_per_epoch, initial_epoch, epochs, validation_data, callbacks, verbose):
        """Keras's loop, for several replicas."""
        around = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=steps_per_epoch)
        train_step, test_step = self._step(model.train_step), self._step(model.test_step)
        training = iter(self.distribute(batches))
        validation = self.distribute(validation_data)
        around.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            model.reset_metrics()
            around.on_epoch_begin(epoch)
            for step in range(steps_per_epoch):
                around.on_train_batch_begin(step)
                step_logs = train_step(next(training))
                around.on_train_batch_end(step, step_logs)
            logs = self._results(model, step_logs)
            model.reset_metrics()
            around.on_test_begin()
            for batch in validation:
                step_logs = test_step(batch)
            around.on_test_end(step_logs)
            logs |= {f"val_{name}": value for name, value in self._results(model, step_logs).items()}
            around.on_epoch_end(epoch, logs)
        around.on_train_end()

    def _step(self, step: Callable) -> Callable:
        """Returns a step of all replicas as one graph, which returns the logs of the first replica."""

        @tf.function(reduce_retracing=True)
        def everywhere(data):
            step_logs = self.strategy.run(step, args=(data,))
            return {name: self.strategy.experimental_local_results(value)[0] for name, value in step_logs.items()}

        return everywhere

    @staticmethod
    def _results(model, step_logs):
        """Returns the metrics over all replicas, of those in a step's logs."""
        return {metric.name: float(metric.result()) for metric in model.metrics if metric.name in step_logs}
