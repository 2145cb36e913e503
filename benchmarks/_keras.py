"""The reference network in Keras 3 on TensorFlow: a worker, run by a Python of its own."""

import os
import time

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import keras
import numpy as np
import tensorflow as tf
from _data import BATCH_SIZE, LR, N_CLASSES, N_FEATURES, N_WORDS, SIZES, load_data
from _paired import serve
from keras import layers

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def build(size):
    """The network of `_reference.HandNetwork`; pixels NHWC, as TensorFlow likes them."""
    size_ = SIZES[size]
    if size == "FEAT":
        inputs = x = keras.Input((N_FEATURES,))
    else:
        image = keras.Input((size_.pixels, size_.pixels, 3))
        tokens = keras.Input((size_.n_tokens,), dtype="int32")
        frames = keras.Input((50, size_.frame))
        x = image
        for channels in (32, 64):
            x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
            x = layers.MaxPooling2D()(x)
        x = layers.AveragePooling2D(size_.pixels // 16)(x)
        x = layers.Dense(512, activation="relu")(layers.Flatten()(x))
        words = layers.GlobalAveragePooling1D()(layers.Embedding(N_WORDS, 100)(tokens))
        sound = layers.LSTM(128)(frames)
        inputs = [image, tokens, frames]
        x = layers.Concatenate()([x, words, sound])
    x = layers.Dense(128)(layers.Dense(256, activation="relu")(x))
    x = layers.ReLU()(layers.LayerNormalization(epsilon=1e-5)(x))
    model = keras.Model(inputs, layers.Dense(N_CLASSES)(x))
    model.compile(
        keras.optimizers.Adam(LR), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def as_arrays(arrays):
    if "features" in arrays:
        return arrays["features"]
    pixels = arrays["image"].astype(np.float32)
    pixels = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    return [pixels, arrays["tokens"], arrays["frames"]]


def train(size):
    arrays, y = load_data(size, "train")
    X, model = as_arrays(arrays), build(size)
    model.optimizer.build(model.trainable_variables)
    weights = model.get_weights()

    def work():
        # The same model again, so that only the first time traces it.
        model.set_weights(weights)
        for variable in model.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        model.optimizer.learning_rate = LR
        start = time.process_time()
        history = model.fit(X, y, batch_size=BATCH_SIZE, epochs=SIZES[size].n_epochs, verbose=0)
        seconds = time.process_time() - start
        test_rows, truth = load_data(size, "test")
        accuracy = (model.predict(as_arrays(test_rows), verbose=0).argmax(1) == truth).mean()
        return {"seconds": seconds, "loss": history.history["loss"][-1], "accuracy": accuracy}

    return work


def predict(size):
    test_rows, _ = load_data(size, "test")
    test, model = as_arrays(test_rows), build(size)

    def work():
        start = time.process_time()
        model.predict(test, batch_size=SIZES[size].predict_batch, verbose=0)
        return {"seconds": time.process_time() - start}

    return work


if __name__ == "__main__":
    serve({"train": train, "predict": predict})
