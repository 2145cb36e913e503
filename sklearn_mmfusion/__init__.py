"""Fuse images, text and sound inside scikit-learn pipelines.

The public names below are imported when first used, so that ``import sklearn_mmfusion`` costs
nothing and a script that only needs the containers never loads torch.
"""

from importlib import import_module

__version__ = "0.1.0.dev0"

# public name -> the module that defines it
_PUBLIC = {
    "AudioCleaner": "preprocessing",
    "AudioEncoder": "feature_extraction",
    "BlockImputer": "cross_decomposition",
    "BlockPooling": "cross_decomposition",
    "BlockWeighting": "cross_decomposition",
    "BlockWhitening": "cross_decomposition",
    "FileArray": "containers",
    "FusionTransformer": "compose",
    "GCCA": "cross_decomposition",
    "ImageCleaner": "preprocessing",
    "ImageEncoder": "feature_extraction",
    "JointFusionClassifier": "neural_network",
    "JointFusionRegressor": "neural_network",
    "LateFusionClassifier": "ensemble",
    "LateFusionRegressor": "ensemble",
    "LogMelSpectrogram": "preprocessing",
    "MCCA": "cross_decomposition",
    "MFA": "cross_decomposition",
    "NeuralClassifier": "neural_network",
    "NeuralRegressor": "neural_network",
    "PointCloudEncoder": "feature_extraction",
    "SequenceCleaner": "preprocessing",
    "SequenceEncoder": "feature_extraction",
    "TensorArray": "containers",
    "TextCleaner": "preprocessing",
    "TextEncoder": "feature_extraction",
    "Tokenizer": "preprocessing",
    "VideoEncoder": "feature_extraction",
    "align_on_time": "alignment",
    "check_files": "containers",
    "column_kinds": "pipelines",
    "cut_windows": "alignment",
    "load_multimodal_digits": "datasets",
    "make_fusion_transformer": "compose",
    "make_multimodal_classification": "datasets",
    "make_multimodal_pipeline": "pipelines",
    "multimodal_frame": "containers",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
