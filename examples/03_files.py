"""A table of file names: pictures and recordings stay on disk until a batch needs them.

Run: python examples/03_files.py        (needs Pillow: pip install 'sklearn-mmfusion[io]')

Image and audio encoders read a text cell as the path of a file, relative to the `root` in
`file_params`. The frame is a plain pandas data frame, as `read_csv` returns it; an empty cell is an
absent modality.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import wavfile
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    TextEncoder,
    make_multimodal_classification,
)


def write_files(folder, n_samples=240):
    """Write pictures, recordings and a table of them; in your project these already exist."""
    X, y = make_multimodal_classification(n_samples, missing_rate=0.05, random_state=0)
    table = {"photo": [], "clip": [], "title": list(X["text"]), "label": np.array(list("abc"))[y]}
    for i, (image, audio) in enumerate(zip(X["image"], X["audio"], strict=True)):
        photo, clip = f"photo{i}.png", f"clip{i}.wav"
        if isinstance(image, np.ndarray):  # else absent: no file, and an empty cell
            Image.fromarray(image).save(folder / photo)
        if isinstance(audio, np.ndarray):
            wavfile.write(folder / clip, 8000, (32767 * audio).astype(np.int16))
        table["photo"].append(photo if (folder / photo).exists() else None)
        table["clip"].append(clip if (folder / clip).exists() else None)
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)


def make_model(folder):
    """Return an untrained pipeline over the columns photo, clip and title."""
    few = {"n_components": 32, "max_epochs": 8, "random_state": 0}
    fusion = FusionTransformer(
        [
            ("image", ImageEncoder(file_params={"root": str(folder)}, **few), "photo"),
            (
                "audio",
                AudioEncoder(file_params={"root": str(folder)}, sample_rate=8000, **few),
                "clip",
            ),
            ("text", TextEncoder(**few), "title"),
        ]
    )
    return make_pipeline(fusion, NeuralClassifier(max_epochs=20, random_state=0))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        frame = pd.read_csv(folder / "table.csv")
        print(frame.head(), end="\n\n")
        print(f"absent cells: {frame.isna().sum().to_dict()}", end="\n\n")
        X, y = frame[["photo", "clip", "title"]], frame["label"]
        X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
        model = make_model(folder).fit(X_train, y_train)
        print(classification_report(y_test, model.predict(X_test), digits=3))


if __name__ == "__main__":
    main()
