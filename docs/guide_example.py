"""Makes the example of docs/guide.md: a folder of images, mine/images, and a classifier of them, mine/model.keras.

python docs/guide_example.py
"""

import pathlib

import keras
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
digits = load_digits()
for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = pathlib.Path("mine/images", "train" if number < 1497 else "test", NAMES[label])
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image * 255 / 16).round().astype("uint8")).save(folder / f"{number:04}.png")

keras.utils.set_random_seed(0)
train = keras.utils.image_dataset_from_directory("mine/images/train", color_mode="grayscale", image_size=(8, 8))
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),  # pixels from 0 to 255
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, epochs=30, verbose=2)
model.save("mine/model.keras")
