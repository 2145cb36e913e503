"""Shorthand for a `FusionTransformer` with generated names."""

from sklearn_mmfusion._sklearn import _name_estimators
from sklearn_mmfusion.compose._transformer import FusionTransformer


def make_fusion_transformer(
    *transformers,
    fusion="concat",
    fusion_params=None,
    missing="mean",
    add_indicator=False,
    remainder="drop",
    n_jobs=None,
    memory=None,
    random_state=None,
    verbose=False,
    verbose_feature_names_out=True,
):
    """Make a `FusionTransformer` whose modalities are named by their transformers.

    Parameters
    ----------
    *transformers : (transformer, column) pairs
        What to apply to which column, as in `FusionTransformer`.
    fusion : str or transformer, default="concat"
        See `FusionTransformer`, as for all that follows.
    fusion_params : dict or None, default=None
        Parameters of a fusion given by name.
    missing : {"mean", "zero", "impute", "error"}, default="mean"
        What stands for an absent modality.
    add_indicator : bool, default=False
        Whether to append one column per modality, 1.0 where it is absent.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        What becomes of columns that no pair names.
    n_jobs : int or None, default=None
        Transformers to fit or apply at once.
    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of fitted transformers and their output.
    random_state : int, RandomState instance or None, default=None
        Root of all transformers' seeds.
    verbose : bool, default=False
        Whether to print the time each transformer took to fit.
    verbose_feature_names_out : bool, str or callable, default=True
        How feature names are written.

    Returns
    -------
    fusion_transformer : FusionTransformer
        Its triples carry the lower-case class names, numbered (``_1``, ``_2``) where one repeats.

    Raises
    ------
    ValueError
        If an argument is not a pair.

    See Also
    --------
    FusionTransformer : Takes names of your own.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_mmfusion import make_fusion_transformer
    >>> fusion = make_fusion_transformer((PCA(), "image"), (PCA(), "sound"), ("passthrough", "age"))
    >>> [name for name, _, _ in fusion.transformers]
    ['pca_1', 'pca_2', 'passthrough']
    """
    for pair in transformers:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(
                "make_fusion_transformer: every argument must be a (transformer, column) pair, "
                f"got {pair!r}."
            )
    # a triple's name must be an identifier: pca_1, not pca-1
    named = _name_estimators([transformer for transformer, _ in transformers])
    triples = [
        (name.replace("-", "_"), transformer, column)
        for (name, _), (transformer, column) in zip(named, transformers, strict=True)
    ]
    return FusionTransformer(
        triples,
        fusion=fusion,
        fusion_params=fusion_params,
        missing=missing,
        add_indicator=add_indicator,
        remainder=remainder,
        n_jobs=n_jobs,
        memory=memory,
        random_state=random_state,
        verbose=verbose,
        verbose_feature_names_out=verbose_feature_names_out,
    )
