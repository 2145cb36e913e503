"""Feature-level fusion in one transformer."""

from collections import Counter
from itertools import chain
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils import Bunch, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._caching import MEMORY, CachedChild, open_memory
from sklearn_mmfusion._columns import (
    output_columns,
    remember_columns,
    select_for_fit,
    select_for_predict,
)
from sklearn_mmfusion._routing import (
    route_params,
    take_params,
    take_rows,
    transformer_mapping,
)
from sklearn_mmfusion._sklearn import (
    HasMethods,
    Hidden,
    MetadataRouter,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    _name_estimators,
    _num_samples,
)
from sklearn_mmfusion._triples import (
    KEYWORDS,
    TripleComposition,
    as_transformer,
    check_triples,
    is_passthrough,
    learns_from_y,
    resolve_triples,
    root_seed,
    seeded_clone,
    wants_column,
)
from sklearn_mmfusion._validation import TARGET_TYPES, all_or_nothing, check_weight, check_y, warn
from sklearn_mmfusion.compose.blocks import (
    FEATURE_FUSIONS,
    append_indicators,
    as_block,
    build_fusion,
    cast,
    check_absent,
    concatenate,
    fit_child,
    fit_fusion,
    fuse,
    impute,
    lossy_features,
    mean_features,
    transform_child,
)
from sklearn_mmfusion.containers.conversion import as_table
from sklearn_mmfusion.cross_decomposition import BlockImputer
from sklearn_mmfusion.cross_decomposition.block_transformer import BlockTransformer, side_by_side


class FusionTransformer(TransformerMixin, TripleComposition):
    """Send every modality through its own transformer and fuse their features.

    The feature-level counterpart of scikit-learn's `ColumnTransformer` for rows that hold images,
    text, sound and tables, any of which may be absent. Each transformer is fitted on the rows that
    have its modality. `fusion` sets how the features are joined, `missing` how absent modalities
    are filled in.

    Parameters
    ----------
    transformers : list of (str, transformer, column) triples
        As in `ColumnTransformer`. The name must be an identifier; it is used in
        ``set_params(name=...)`` and ``name__parameter``. The transformer is an estimator with `fit`
        and `transform`, ``"passthrough"`` or ``"drop"``. The column is a string or an integer (one
        column: the modality is absent where the cell is NA), or a list of either, a slice, a
        boolean mask, or a callable that takes X and returns one of these (a table: the modality
        always counts as present, and NA is a missing value for an imputer).
    fusion : {"concat", "weighted", "whitened", "sum", "mean", "max", "mfa", "mcca", "gcca"} or \
transformer, default="concat"
        How features are fused.

        - ``"concat"``: concatenate them.
        - ``"weighted"``: scale each block to unit total variance, multiply it by its weight and
          concatenate (:class:`BlockWeighting`: ``weights``, ``scale``).
        - ``"whitened"``: whiten each block and concatenate (:class:`BlockWhitening`:
          ``n_components``).
        - ``"sum"``, ``"mean"``, ``"max"``: pool over the present blocks, which must have equal
          widths (:class:`BlockPooling`).
        - ``"mfa"``: principal components of the blocks, each scaled to unit leading variance
          (:class:`MFA`: ``n_components``).
        - ``"mcca"``, ``"gcca"``: components that the blocks share, concatenated or averaged over
          the present ones (:class:`MCCA`, :class:`GCCA`: ``n_components``, ``shrinkage``,
          ``average``).
        - a transformer: fitted on a DataFrame with one column of 1-D cells per modality, NA where
          absent. It must handle absent rows itself and must not return NaN.
          ``BlockImputer(alpha=1.0)`` is ``"concat"`` after imputation with a custom penalty.
    fusion_params : dict or None, default=None
        Parameters of a fusion given by name, such as ``{"n_components": 32}``.
    missing : {"mean", "zero", "impute", "error"}, default="mean"
        How to fill in an absent modality: by its mean features in training, by zeros, or by a
        ridge regression on the present modalities (:class:`BlockImputer`). "error" raises instead.
        Pooled and averaged fusions skip an absent modality instead of filling it in, except with
        "impute": every fusion treats imputed features as present ones.
    add_indicator : bool, default=False
        Whether to append one column per modality, 1.0 where it is absent.
    dtype : dtype, default=np.float32
        Dtype of the output, float32 or float64. Large numbers such as time stamps need float64:
        float32 has seven digits.
    target_type : str, default="auto"
        Set on every encoder whose own `target_type` is "auto". Use "continuous" for regression on
        whole numbers; "auto" leaves the choice to each encoder.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        How to treat columns that no triple selects; a transformer gets them as one table.
    n_jobs : int or None, default=None
        Number of transformers to fit or apply in parallel. None means 1 unless in a joblib
        context, -1 means all cores.
    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of fitted transformers and their outputs: a folder or a `joblib.Memory`. A
        transformer is read from there if its parameters and its rows are the same as before, such
        as in other candidates of a search. None disables caching. See Notes.
    random_state : int, RandomState instance or None, default=None
        Every `random_state` inside each transformer is set from this and the transformer's name, so
        that adding a modality does not change the others. None leaves them unchanged.
    verbose : bool, default=False
        Whether to print the time each transformer took to fit.
    verbose_feature_names_out : bool, str or callable, default=True
        Whether feature names begin with the name of their modality. A format string such as
        ``"{transformer_name}.{feature_name}"``, or a callable of these two, sets another form.

    Attributes
    ----------
    transformers_ : list of (str, transformer, column) triples
        The fitted transformers, with ``remainder`` last if there is one.
    named_transformers_ : :class:`~sklearn.utils.Bunch`
        The fitted transformers by name.
    output_indices_ : dict of {str: slice}
        Output columns of each modality; a fusion that mixes modalities gives them the same slice.
        Indicators are named ``missingindicator_<name>``.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Fill values of each modality, used where it is absent; with ``missing="impute"``, where all
        modalities are absent.
    imputer_ : BlockImputer or None
        Fills absent modalities before the fusion, None unless ``missing="impute"``.
    fusion_ : transformer or None
        The fitted fusion over blocks, None for ``"concat"``.
    n_features_in_ : int
        Number of columns of X in `fit`.
    feature_names_in_ : ndarray of str
        Names of the columns of X in `fit`, when all are strings.

    Raises
    ------
    ValueError
        If a column is not in the training X or has no present row there, if the widths do not suit
        the fusion, or if a modality is absent and ``missing="error"``. Errors raised by a
        transformer carry a note that names its modality.

    Warns
    -----
    UserWarning
        If rows have no modality at all (they get fill values only), a column seen in `fit` is
        absent from X or has no present row there (all its rows count as absent), or features lose
        distinct values in the conversion to `dtype`.

    See Also
    --------
    make_fusion_transformer : Name the triples after their transformers.
    sklearn.compose.ColumnTransformer : The same for complete tables.

    Notes
    -----
    One-dimensional cells of equal length reach a transformer as a 2-D array, other single columns
    as a Series, several columns as a DataFrame (or an array, if X is one). In a DataFrame, columns
    are found by name: their order does not matter, and other columns are ignored. Features are
    computed at the transformers' own precision and returned as `dtype`. If a block is sparse,
    ``"concat"`` and ``"weighted"`` return a CSR matrix; other fusions and ``missing="impute"``
    raise. For estimators that need dense features, such as HistGradientBoosting, add a step to the
    transformer: ``make_pipeline(TfidfVectorizer(), TruncatedSVD(30))``. NaN that a transformer
    leaves in a *table* passes through ``"concat"`` only: impute it there, unless the estimator that
    follows takes NaN.

    `fit` passes `sample_weight` and `groups` to the transformers that take them; with metadata
    routing enabled, it follows their requests. If `fit` fails, the earlier fit is kept.

    With `memory`, the key of a stored fit contains:

    - the class and parameters of the transformer, without `verbose`, `n_jobs` and `memory` of
      library classes. Library classes are identified by version, custom classes and functions by
      their source text;
    - the cells, index, target, weights and groups. Files in a :class:`~sklearn_mmfusion.FileArray`,
      and texts that an encoder reads as paths, are identified by path, size and modification time;
    - library versions, scikit-learn's configuration and, if torch may be used, its number of
      threads, device type and settings.

    Functions that custom code calls elsewhere are not part of the key: clear the folder when they
    change. A transformer without a seed, or one that cannot be hashed (a lambda), is refitted every
    time, with a warning. Training with ``net_params={"accelerator": ...}`` is not cached.

    Reading a stored fit does not repeat its warnings. The result is bitwise equal to the one
    computed, except for frozen networks: an encoder in a :class:`~sklearn.frozen.FrozenEstimator`,
    also as first step of a pipeline, computes each cell only once for all splits. The batches then
    differ from those without `memory`, and features agree within 1e-5 (relative). Processes that
    need new cells of the same frozen encoder wait for each other.

    Each cell of a column is hashed once if the column owns its memory or is a memory map opened
    with mode "r"; other memory (``copy=False``) is hashed in full each time. Manual changes to a
    fitted transformer are not detected. Entries are never deleted; use
    ``joblib.Memory.reduce_size``. After a search, ``set_params(memory=None)`` stops predictions
    from being stored. Pickles of a fitted FusionTransformer do not contain `memory`; `clone` and
    `copy` keep it. As with any joblib cache, anyone who can write to the folder can run code in
    the processes that read it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_mmfusion import FusionTransformer, multimodal_frame
    >>> rng = np.random.default_rng(0)
    >>> X = multimodal_frame(
    ...     spectrum=[*rng.normal(size=(3, 6)), None],
    ...     title=["one", None, "two", "one two"],
    ...     age=[31.0, 25.0, 58.0, 44.0],
    ... )
    >>> fusion = FusionTransformer(
    ...     [
    ...         ("spectrum", PCA(n_components=2), "spectrum"),
    ...         ("title", TfidfVectorizer(), "title"),
    ...         ("table", StandardScaler(), ["age"]),
    ...     ]
    ... )
    >>> fusion.fit_transform(X).shape
    (4, 5)
    >>> fusion.get_feature_names_out()
    array(['spectrum__pca0', 'spectrum__pca1', 'title__one', 'title__two',
           'table__age'], dtype=object)
    """

    _parameter_constraints: dict = {
        "transformers": [list, Hidden(tuple)],
        "fusion": [StrOptions(set(FEATURE_FUSIONS)), HasMethods(["fit", "transform"])],
        "fusion_params": [dict, None],
        "missing": [StrOptions({"mean", "zero", "impute", "error"})],
        "add_indicator": ["boolean"],
        "dtype": "no_validation",  # `_read_settings` checks it
        "target_type": [StrOptions({"auto", *TARGET_TYPES})],
        "remainder": [StrOptions(set(KEYWORDS)), HasMethods(["fit", "transform"])],
        "n_jobs": [Integral, None],
        "memory": MEMORY,
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "verbose_feature_names_out": ["boolean", str, callable],
    }

    def __init__(
        self,
        transformers,
        *,
        fusion="concat",
        fusion_params=None,
        missing="mean",
        add_indicator=False,
        dtype=np.float32,
        target_type="auto",
        remainder="drop",
        n_jobs=None,
        memory=None,
        random_state=None,
        verbose=False,
        verbose_feature_names_out=True,
    ):
        self.transformers = transformers
        self.fusion = fusion
        self.fusion_params = fusion_params
        self.missing = missing
        self.add_indicator = add_indicator
        self.dtype = dtype
        self.target_type = target_type
        self.remainder = remainder
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_feature_names_out = verbose_feature_names_out

    # -------------------------------------------------------------------------- fit, transform

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Fit every transformer on the rows that have its modality, then the fusion.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities: a pandas or polars frame, or a 2-D array (of objects too).
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets for the transformers that learn from them.
        **params : dict
            ``sample_weight`` and ``groups``, one value per row, for the transformers that take
            them; with metadata routing enabled, whatever they request.

        Returns
        -------
        self : object
            Fitted transformer.
        """
        with all_or_nothing(self):
            self._fit(X, y, params, "fit")
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, **params):
        """Fit, and return the fused features of X.

        Features are computed only once. The result equals that of ``fit(X, y).transform(X)``,
        unless a transformer's own `fit_transform` differs from that, as with cross-fitting
        (:class:`~sklearn.preprocessing.TargetEncoder`).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities, as in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets for the transformers that learn from them.
        **params : dict
            As in `fit`.

        Returns
        -------
        X_t : ndarray or CSR matrix of shape (n_samples, n_features_out)
            The fused features.
        """
        with all_or_nothing(self):
            return self._fit(X, y, params, "fit_transform")

    def transform(self, X, **params):
        """Compute and fuse the features of X.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities. In a DataFrame, columns are found by name; unknown ones are ignored.
            A modality whose columns X lacks counts as absent in all rows, with a warning. If X
            has unknown columns as well, or a part of a table only, that is a ValueError.
        **params : dict
            Metadata for the transformers, only with metadata routing enabled.

        Returns
        -------
        X_t : ndarray or CSR matrix of shape (n_samples, n_features_out)
            The fused features.
        """
        check_is_fitted(self)
        blocks = self._encode(X, params=params) if params else self._encoding(X)
        check_absent(blocks, self._settings.missing)
        return self._finish(blocks, self._fuse(impute(self.imputer_, blocks)))

    @property
    def _selections(self):
        return [selection for _, selection in self._active]

    def _encode(self, X, only=None, params=None):
        """Compute the block of each modality, or of some only, which are not stored then."""
        routed = route_params(self, self._children(), params or {}, "transform")
        selected = select_for_predict(self, X, self._selections, only)
        memory = open_memory(self.memory if only is None else None)
        outputs = Parallel(n_jobs=self.n_jobs)(
            delayed(transform_child)(
                CachedChild(child, memory, key=self._fit_keys[selection.name]),
                data,
                present,
                selection,
                routed.get(selection.name, {}),
            )
            for (child, selection), (data, present) in zip(self._active, selected, strict=True)
        )
        blocks = []
        for (child, selection), (_, present), output in zip(
            self._active, selected, outputs, strict=True
        ):
            fitted = self._widths[selection.name], self._frame_columns[selection.name]
            blocks.append(as_block(selection, child, output, present, *fitted))
        return blocks

    def _hide(self, blocks, names):
        """Make the blocks of these modalities absent in all rows."""
        pairs = zip(self._active, blocks, strict=True)
        return [
            as_block(selection, child, None, np.zeros_like(block.present), block.width)
            if selection.name in names
            else block
            for (child, selection), block in pairs
        ]

    def _replace(self, blocks, others, names):
        """Take the blocks of these modalities from others."""
        pairs = zip(blocks, others, strict=True)
        return [other if block.name in names else block for block, other in pairs]

    # -------------------------------------------------------------------------- steps of a fit

    def _fit(self, X, y, params, caller):
        """Fit everything; return the fused features."""
        check_triples(self.transformers, self)
        self._settings = self._read_settings()
        table = as_table(X)
        if y is not None and _num_samples(y) != len(table):
            raise ValueError(
                f"{type(self).__name__}: Found input variables with inconsistent numbers of "
                f"samples: X has {len(table)} rows, y has {_num_samples(y)}."
            )
        if y is not None and any(learns_from_y(t) for _, t, _ in self.transformers):
            check_y(y, len(table), estimator_name=type(self).__name__)  # counts rows of X
        weight = params.get("sample_weight")
        weight = check_weight(weight, len(table), estimator_name=type(self).__name__)
        routed = route_params(self, self._children(), params, caller)
        resolved = self._resolve(table)
        seed = root_seed(self.random_state)
        active = [(t, s) for t, s in resolved if t != "drop" and s.positions]
        if not active:
            raise ValueError(
                f"{type(self).__name__}: every transformer is 'drop' or selects no column; there "
                "is nothing to fuse."
            )
        selected = select_for_fit(table, [s for _, s in active], type(self).__name__)
        jobs = self._fit_jobs(active, selected, y, routed, seed)
        results = Parallel(n_jobs=self.n_jobs)(jobs)
        blocks = self._keep_children(resolved, active, selected, results)
        check_absent(blocks, self.missing)
        zero = self.missing == "zero"
        fills = {b.name: mean_features(b, weight) for b in blocks}
        self.fill_values_ = {k: np.zeros_like(v) if zero else v for k, v in fills.items()}
        self.imputer_ = BlockImputer() if self.missing == "impute" else None
        fused = self._fit_fusion(impute(self.imputer_, blocks, fit=True), y, seed)
        self._record_outputs(blocks, fused)
        self._warn_of_lossy_features(blocks, fused)
        return self._finish(blocks, fused)

    def _read_settings(self):
        """Return the parameters that `transform` uses; later changes wait for the next fit."""
        try:
            dtype = None if self.dtype is None else np.dtype(self.dtype)  # of None: float64
        except TypeError:
            dtype = None
        if dtype not in (np.float32, np.float64):
            raise ValueError(
                f"{type(self).__name__}: dtype={self.dtype!r}; expected np.float32 or np.float64."
            )
        names = "fusion", "missing", "add_indicator"
        return Bunch(dtype=dtype, **{name: getattr(self, name) for name in names})

    def _finish(self, blocks, fused):
        """Cast the fused features and append the indicators."""
        settings = self._settings
        everywhere = np.ones(len(blocks[0].present), dtype=bool)
        fused = cast(fused, settings.dtype, f"fusion={settings.fusion!r}", everywhere)
        return append_indicators(fused, blocks) if settings.add_indicator else fused

    def _warn_of_lossy_features(self, blocks, fused):
        """Warn about features that lose distinct values in the conversion to `dtype`."""
        dtype = self._settings.dtype
        if self.fusion_ is not None:
            lossy = lossy_features(fused, dtype)
            found = [f"feature {j} of fusion={self.fusion!r} ({k})" for j, k in lossy.items()]
        else:
            found, names_in = [], _check_feature_names_in(self, None)
            for (child, selection), block in zip(self._active, blocks, strict=True):
                lossy = lossy_features(block.values, dtype)
                names = self._child_names(child, selection, names_in) if lossy else []
                found += [
                    f"{names[j]!r} of modality {block.name!r} ({k})" for j, k in lossy.items()
                ]
        if found:
            warn(
                f"{type(self).__name__}: features lose distinct values in {dtype}: "
                f"{', '.join(found[:5])}. "
                "Set dtype=np.float64, or subtract the mean (StandardScaler)."
            )

    def _resolve(self, table):
        """Return (transformer, Selection) pairs of the triples and, if columns remain, the rest."""
        estimator_name, names = type(self).__name__, remember_columns(self, table)
        triples = list(self.transformers)
        selections = resolve_triples(triples, table, names, estimator_name)
        used = set(chain.from_iterable(selection.positions for selection in selections))
        rest = [i for i in range(table.shape[1]) if i not in used]
        if rest:
            triples.append(("remainder", self.remainder, rest))
            selections += resolve_triples(triples[-1:], table, names, estimator_name)
        return [(t, selection) for (_, t, _), selection in zip(triples, selections, strict=True)]

    def _fit_jobs(self, active, selected, y, routed, seed):
        """Return one delayed `fit_child` per transformer, on the rows that have its modality."""
        jobs, memory, auto_params = [], open_memory(self.memory), {"target_type": self.target_type}
        for i, (transformer, selection) in enumerate(active):
            child = seeded_clone(as_transformer(transformer), seed, selection.name, auto_params)
            data, present = selected[i]
            message = f"({i + 1} of {len(active)}) Fitting {selection.name}"
            params = {k: take_params(v, present) for k, v in routed.get(selection.name, {}).items()}
            child = CachedChild(child, memory, f"FusionTransformer: modality {selection.name!r}")
            args = (child, data, present, take_rows(y, present), selection, params)
            jobs.append(delayed(fit_child)(*args, message if self.verbose else None))
        return jobs

    def _keep_children(self, resolved, active, selected, results):
        """Store the fitted transformers; return the block of each."""
        children, blocks = {}, []
        self._active, self._widths, self._frame_columns, self._fit_keys = [], {}, {}, {}
        for (_, selection), (_, present), (cached, output) in zip(
            active, selected, results, strict=True
        ):
            name, child = selection.name, cached.estimator
            block = as_block(selection, child, output, present)
            self._frame_columns[name] = output_columns(output)
            children[name], self._fit_keys[name] = child, cached.key
            self._widths[name] = block.width
            self._active.append((child, selection))
            blocks.append(block)
        self.transformers_ = [
            (selection.name, children.get(selection.name, transformer), selection.column)
            for transformer, selection in resolved
        ]
        return blocks

    def _fit_fusion(self, blocks, y, seed):
        self._sparse = any(sparse.issparse(block.values) for block in blocks)
        self.fusion_ = build_fusion(self.fusion, self.fusion_params, self.missing, seed)
        if self.fusion_ is not None:
            fit_fusion(self.fusion_, blocks, y, f"fusion={self.fusion!r}")
        return self._fuse(blocks)

    def _fuse(self, blocks):
        if self.fusion_ is None:
            dtype = self._settings.dtype
            return concatenate(blocks, self.fill_values_, dtype, as_sparse=self._sparse)
        setting = f"fusion={self._settings.fusion!r}"
        return fuse(self.fusion_, blocks, setting, as_sparse=self._sparse)

    def _record_outputs(self, blocks, fused):
        if self.fusion_ is None:
            where = side_by_side(self._widths)
        else:
            whole = {block.name: slice(0, fused.shape[1]) for block in blocks}
            where = {**whole, **getattr(self.fusion_, "output_indices_", {})}
        nothing = {name: slice(0, 0) for name, *_ in self.transformers_}
        indicators = [f"missingindicator_{block.name}" for block in blocks]
        flags = {name: slice(j, j + 1) for j, name in enumerate(indicators, fused.shape[1])}
        self.output_indices_ = {
            **nothing,
            **where,
            **(flags if self._settings.add_indicator else {}),
        }
        self._n_fused = fused.shape[1]

    # -------------------------------------------------------------------------- feature names

    def get_feature_names_out(self, input_features=None):
        """Get the names of the fused features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X; must equal `feature_names_in_` where that is defined.

        Returns
        -------
        feature_names_out : ndarray of str objects
            ``modality__feature`` if a feature belongs to one modality, ``sum0``, ``sum1``, ... if
            the fusion mixes modalities.
        """
        check_is_fitted(self)
        names = self._fused_names(_check_feature_names_in(self, input_features))
        if self._settings.add_indicator:
            names += [f"missingindicator_{selection.name}" for _, selection in self._active]
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise ValueError(
                f"{type(self).__name__}: output feature names {repeated[:5]} are not unique; set "
                "verbose_feature_names_out=True to begin them with the modality's name."
            )
        return np.asarray(names, dtype=object)

    def _fused_names(self, names_in):
        fusion = self.fusion_
        if fusion is None or getattr(fusion, "_keeps_features", False):
            groups = [(s.name, self._child_names(c, s, names_in)) for c, s in self._active]
            return self._prefixed(groups)
        if isinstance(fusion, BlockTransformer) and not fusion._shares_output:
            if self.verbose_feature_names_out is False:  # the number makes names unique
                return [f"{fusion._feature_name}{i}" for i in range(self._n_fused)]
            return self._prefixed(fusion._names_by_block().items())
        if hasattr(fusion, "get_feature_names_out"):
            return [str(name) for name in fusion.get_feature_names_out()]
        kind = type(fusion).__name__.lower()
        return [f"{kind}{i}" for i in range(self._n_fused)]

    def _child_names(self, child, selection, names_in):
        """Return the feature names of a transformer, or numbers if it has none."""
        width = self._widths[selection.name]
        numbers = [str(i) for i in range(width)]
        columns = names_in[list(selection.positions)]
        if is_passthrough(child):
            return list(columns) if len(columns) == width else numbers
        if wants_column(child) and self.verbose_feature_names_out is not False:
            return numbers  # image__0, not image__imageencoder0
        if self._frame_columns[selection.name] is not None:
            return self._frame_columns[selection.name]
        if not hasattr(child, "get_feature_names_out"):
            return numbers
        names = child.get_feature_names_out(None if selection.single else columns)
        return [str(name) for name in names]

    def _prefixed(self, groups):
        how = self.verbose_feature_names_out
        if how is False:
            return [feature for _, features in groups for feature in features]
        if how is True:
            how = "{transformer_name}__{feature_name}"
        if isinstance(how, str):
            template = how

            def how(name, feature):
                return template.format(transformer_name=name, feature_name=feature)

        return [how(name, feature) for name, features in groups for feature in features]

    # -------------------------------------------------------------------------- protocol

    @property
    def named_transformers_(self):
        """The fitted transformers by name."""
        return Bunch(**{name: transformer for name, transformer, _ in self.transformers_})

    def _children(self):
        return {**dict(self._pairs), "remainder": self.remainder}

    def _displayed_triples(self):
        if hasattr(self, "transformers_"):
            return [t for t in self.transformers_ if t[0] != "remainder" or t[1] != "drop"]
        rest = [] if isinstance(self.remainder, str) else [("remainder", self.remainder, [])]
        return [*self.transformers, *rest]

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        Returns
        -------
        routing : MetadataRouter
            Requests of each transformer.
        """
        router = MetadataRouter(owner=self)
        for name, transformer in self._children().items():
            if isinstance(transformer, str):
                continue
            mapping = transformer_mapping(transformer, ["fit", "fit_transform"])
            mapping.add(caller="transform", callee="transform")
            router.add(method_mapping=mapping, **{name: transformer})
        return router

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # `dtype` decides
        try:
            children = [get_tags(t) for _, t in self._pairs if not isinstance(t, str)]
        except (TypeError, ValueError):  # malformed triples: `fit` raises
            return tags
        tags.target_tags.required = any(child.target_tags.required for child in children)
        # in a plain table; NA cells of other columns are always allowed
        is_concat = isinstance(self.fusion, str) and self.fusion == "concat"
        passes = is_concat and self.missing != "impute"
        tags.input_tags.allow_nan = passes and all(c.input_tags.allow_nan for c in children)
        return tags


def make_fusion_transformer(
    *transformers,
    fusion="concat",
    fusion_params=None,
    missing="mean",
    add_indicator=False,
    dtype=np.float32,
    target_type="auto",
    remainder="drop",
    n_jobs=None,
    memory=None,
    random_state=None,
    verbose=False,
    verbose_feature_names_out=True,
):
    """Make a `FusionTransformer` whose modalities are named after their transformers.

    Parameters
    ----------
    *transformers : (transformer, column) pairs
        Transformers and their columns, as in `FusionTransformer`.
    fusion : str or transformer, default="concat"
        See `FusionTransformer`, also for the parameters below.
    fusion_params : dict or None, default=None
        Parameters of a fusion given by name.
    missing : {"mean", "zero", "impute", "error"}, default="mean"
        How to fill in an absent modality.
    add_indicator : bool, default=False
        Whether to append one column per modality, 1.0 where it is absent.
    dtype : dtype, default=np.float32
        Dtype of the output, float32 or float64.
    target_type : str, default="auto"
        How encoders treat `y`; "continuous" for regression on whole numbers.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        How to treat columns that no pair selects.
    n_jobs : int or None, default=None
        Transformers to fit or apply at once.
    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of fitted transformers and their output.
    random_state : int, RandomState instance or None, default=None
        Seed from which all transformers' seeds derive.
    verbose : bool, default=False
        Whether to print the time each transformer took to fit.
    verbose_feature_names_out : bool, str or callable, default=True
        Form of the feature names.

    Returns
    -------
    fusion_transformer : FusionTransformer
        Names are lower-case class names, numbered (``_1``, ``_2``) if a class occurs twice.

    Raises
    ------
    ValueError
        If an argument is not a pair.

    See Also
    --------
    FusionTransformer : Takes custom names.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_mmfusion import make_fusion_transformer
    >>> fusion = make_fusion_transformer((PCA(), "image"), (PCA(), "sound"), ("passthrough", "age"))
    >>> [name for name, _, _ in fusion.transformers]
    ['pca_1', 'pca_2', 'passthrough']
    """
    for pair in transformers:
        is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
        if not is_pair or hasattr(pair[1], "fit"):
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
        dtype=dtype,
        target_type=target_type,
        remainder=remainder,
        n_jobs=n_jobs,
        memory=memory,
        random_state=random_state,
        verbose=verbose,
        verbose_feature_names_out=verbose_feature_names_out,
    )
