"""Grid search over encoders, fusion and classifier at once.

Run: python examples/01_grid_search.py

A fused model is one scikit-learn pipeline, so that one grid reaches everything in it by name:
`fusiontransformer__text` is the whole text transformer, `fusiontransformer__image__n_components`
one of the image encoder's parameters, `fusiontransformer__fusion` the rule that joins the
features, `neuralclassifier__lr` a parameter of the classifier.
"""

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mmfusion import (
    AudioEncoder,
    FusionTransformer,
    ImageEncoder,
    NeuralClassifier,
    TextEncoder,
    make_multimodal_classification,
)

# These keep the example short; without them, early stopping finds the number of epochs.
SHORT = {"max_epochs": 12, "early_stopping": False, "random_state": 0}


def make_model():
    """Return an untrained pipeline."""
    fusion = FusionTransformer(
        [
            ("image", ImageEncoder(n_components=32, **SHORT), "image"),
            ("text", TextEncoder(n_components=32, **SHORT), "text"),
            ("audio", AudioEncoder(n_components=32, sample_rate=8000, **SHORT), "audio"),
        ]
    )
    return make_pipeline(fusion, NeuralClassifier(hidden_layer_sizes=(64,), **SHORT))


def main():
    # Any data frame will do, with one row per sample and one column per modality.
    X, y = make_multimodal_classification(n_samples=240, n_classes=3, noise=0.7, random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=80, stratify=y, random_state=0
    )
    grids = [
        {
            "fusiontransformer__image__n_components": [32, 64],
            "fusiontransformer__fusion": ["concat", "whitened"],
            "neuralclassifier__lr": [1e-3, 3e-3],
        },
        {  # a whole transformer in place of another: any of scikit-learn's fits
            "fusiontransformer__text": [make_pipeline(TfidfVectorizer(), TruncatedSVD(20))],
        },
    ]
    search = GridSearchCV(make_model(), grids, cv=2, n_jobs=2, verbose=1)
    search.fit(X_train, y_train)
    print(f"best of {len(search.cv_results_['params'])} settings:")
    for name, value in search.best_params_.items():
        print(f"  {name} = {value}")
    print(f"accuracy in cross-validation {search.best_score_:.3f}")
    print(f"accuracy on rows never used  {search.score(X_test, y_test):.3f}")


if __name__ == "__main__":  # worker processes import this file: keep the work out of their way
    main()
