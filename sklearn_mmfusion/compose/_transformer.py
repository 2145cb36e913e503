"""Feature-level fusion: every modality through its own transformer, then into one matrix."""

from itertools import chain
from numbers import Integral

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils import Bunch, check_consistent_length, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._caching import MEMORY, CachedChild, open_memory
from sklearn_mmfusion._composition import (
    KEYWORDS,
    TripleComposition,
    accepted_fit_params,
    as_table,
    check_triples,
    column_names,
    locate,
    resolve,
    root_seed,
    seeded_clone,
    select_rows,
    take_params,
    take_rows,
    wants_column,
    warn_absent_columns,
)
from sklearn_mmfusion._passthrough import as_transformer
from sklearn_mmfusion._sklearn import (
    HasMethods,
    Hidden,
    MetadataRouter,
    MethodMapping,
    StrOptions,
    _fit_context,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn_mmfusion.compose._blocks import (
    as_block,
    fit_child,
    mean_features,
    transform_child,
)
from sklearn_mmfusion.compose._fusion import FUSIONS, FusionMixin
from sklearn_mmfusion.compose._names import FeatureNamesMixin


class FusionTransformer(FusionMixin, FeatureNamesMixin, TransformerMixin, TripleComposition):
    """Send every modality through its own transformer and fuse their features.

    The feature-level counterpart of scikit-learn's `ColumnTransformer` for rows that hold images,
    text, sound and tables, any of which may be absent. What a transformer learns comes from the
    rows that have its modality; `fusion` says how the features meet, `missing` what stands for
    those that are not there.

    Parameters
    ----------
    transformers : list of (str, transformer, column) triples
        As in `ColumnTransformer`. The name must be an identifier; ``set_params(name=...)`` and
        ``name__parameter`` reach the transformer by it. The transformer is an estimator with `fit`
        and `transform`, ``"passthrough"`` or ``"drop"``. The column is a string or an integer (one
        column: the modality is absent where the cell is NA), or a list of either, a slice, a
        boolean mask, or a callable that answers X with one of these (a table: NA is a gap for an
        imputer, the modality counts as present).
    fusion : {"concat", "weighted", "whitened", "sum", "mean", "max", "mfa", "mcca", "gcca"} or \
transformer, default="concat"
        How features are fused.

        - ``"concat"``: side by side.
        - ``"weighted"``: side by side, each block scaled to unit total variance, times given
          weights (:class:`BlockWeighting`: ``weights``, ``scale``).
        - ``"whitened"``: side by side, each block whitened (:class:`BlockWhitening`:
          ``n_components``).
        - ``"sum"``, ``"mean"``, ``"max"``: pooled over the present blocks, which must be of equal
          width (:class:`BlockPooling`).
        - ``"mfa"``: principal components of the blocks, each scaled to unit leading variance
          (:class:`MFA`: ``n_components``).
        - ``"mcca"``, ``"gcca"``: what blocks have in common, side by side or averaged over the
          present ones (:class:`MCCA`, :class:`GCCA`: ``n_components``, ``shrinkage``,
          ``average``).
        - a transformer: fitted on a DataFrame that has a column of 1-D cells for each modality, NA
          where absent. It alone decides what becomes of absent rows, and may return no NaN.
          ``BlockImputer(alpha=1.0)`` is ``"concat"`` with imputation of another penalty.
    fusion_params : dict or None, default=None
        Parameters of a fusion given by name, such as ``{"n_components": 32}``.
    missing : {"mean", "zero", "impute", "error"}, default="mean"
        What stands for an absent modality: its mean features in training, zeros, what the present
        ones predict by ridge regression (:class:`BlockImputer`), or nothing, which raises an error.
        Pooled and averaged fusions leave it out of the pool instead, unless it is imputed: to
        every fusion, imputed features are as good as present ones.
    add_indicator : bool, default=False
        Whether to append one column per modality, 1.0 where it is absent.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        What becomes of columns that no triple names; a transformer gets them as one table.
    n_jobs : int or None, default=None
        Transformers to fit or apply at once. None means 1 unless in a joblib context, -1 all cores.
    memory : str, pathlib.Path, joblib.Memory or None, default=None
        Cache of fitted transformers and their output: a folder, or an object that has one. A
        transformer with equal parameters that meets equal rows again, such as in the other
        candidates of a search, is read from there. None caches nothing. See Notes.
    random_state : int, RandomState instance or None, default=None
        Every `random_state` inside each transformer is set from this and the transformer's name, so
        that adding a modality changes no other. None leaves them as they are.
    verbose : bool, default=False
        Whether to print the time each transformer took to fit.
    verbose_feature_names_out : bool, str or callable, default=True
        Whether feature names begin with the name of their modality. A format string such as
        ``"{transformer_name}.{feature_name}"`` or a callable of these two writes them otherwise.

    Attributes
    ----------
    transformers_ : list of (str, transformer, column) triples
        The fitted transformers, with ``remainder`` last where there is one.
    named_transformers_ : :class:`~sklearn.utils.Bunch`
        The fitted transformers by name.
    output_indices_ : dict of {str: slice}
        Columns of the output that each modality fills. Mixed modalities share theirs; indicators
        are named ``missingindicator_<name>``.
    fill_values_ : dict of {str: ndarray of shape (width,)}
        Features that stand for each modality where it is absent, and with ``missing="impute"``
        where all are.
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
        If a column is not in the training X, has no present row there, widths do not fit the
        fusion, or a modality is absent and ``missing="error"``. Errors raised by a transformer
        carry a note that names its modality.

    Warns
    -----
    UserWarning
        If rows have no modality at all (they get what stands for their absent modalities), or a
        column seen in `fit` is absent from X (all its rows count as absent).

    See Also
    --------
    make_fusion_transformer : Name the triples by their transformers.
    sklearn.compose.ColumnTransformer : The same for complete tables.

    Notes
    -----
    One-dimensional cells of equal length reach a transformer as a 2-D array, other single columns
    as a Series, several columns as a DataFrame (or an array, where X is one). Columns are found by
    name in a DataFrame, whatever their order and whatever else it holds. Features are computed at
    the transformers' own precision and come out float32; if a block is sparse, ``"concat"`` gives
    a CSR matrix and other fusions raise, as ``missing="impute"`` does. NaN that a transformer
    leaves in a *table* passes through ``"concat"`` only: impute it there.

    `fit` passes `sample_weight` and `groups` to the transformers that take them; with metadata
    routing enabled, it follows their requests. A failed `fit` leaves an earlier one in place.

    With `memory`, the key of a stored fit holds:

    - class and parameters of the transformer, but `verbose`, `n_jobs` and `memory` of library
      classes; custom classes and functions by their source text, library classes by version;
    - the cells, index, target, weights and groups. Files in a :class:`~sklearn_mmfusion.FileArray`,
      and texts that an encoder reads as paths, count by path, size and modification time;
    - versions of libraries, scikit-learn's configuration, and where torch may be used its threads,
      kind of device and settings.

    Custom code in other functions is not seen: clear the folder when it changes. A transformer
    without a seed or a key, such as a lambda, is fitted every time, with a warning. What is trained
    through ``net_params={"accelerator": ...}`` is not cached.

    A fit that is read repeats no warnings. It is bit for bit what was computed, except for frozen
    networks: an encoder in a :class:`~sklearn.frozen.FrozenEstimator`, also first in a pipeline,
    sees each cell once whatever the splits, in another batch than without `memory`, and its
    features are equal within 1e-5 (relative). Processes that want new cells of one frozen encoder
    wait for each other.

    Each cell of a column is hashed once, in memory that the column owns or in a memory map opened
    with mode "r"; other memory (``copy=False``) is hashed in full each time. A fitted transformer
    that is changed by hand is not noticed. Nothing is ever deleted; ``joblib.Memory.reduce_size``
    does that. After a search, ``set_params(memory=None)`` keeps predictions from being stored. A
    pickle of a fitted FusionTransformer has no `memory`; `clone` and `copy` keep it. Whoever can
    write to the folder can run code in the processes that read it, as with any joblib cache.

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
        "fusion": [StrOptions(set(FUSIONS)), HasMethods(["fit", "transform"])],
        "fusion_params": [dict, None],
        "missing": [StrOptions({"mean", "zero", "impute", "error"})],
        "add_indicator": ["boolean"],
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
        self._fit(X, y, params, "fit")
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, **params):
        """Fit, and return the fused features of X.

        Equal to ``fit(X, y).transform(X)``, at the cost of one pass.

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
        X_t : ndarray or CSR matrix of shape (n_samples, n_features_out), dtype=float32
            The fused features.
        """
        return self._fit(X, y, params, "fit_transform")

    def transform(self, X, **params):
        """Compute and fuse the features of X.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            The modalities. In a DataFrame, columns are found by name: an absent one counts as
            absent in all rows, unknown ones are ignored.
        **params : dict
            Metadata for the transformers, only with metadata routing enabled.

        Returns
        -------
        X_t : ndarray or CSR matrix of shape (n_samples, n_features_out), dtype=float32
            The fused features.
        """
        check_is_fitted(self)
        routed = self._routed(params, "transform")
        table, where = self._locate(as_table(X))
        memory = open_memory(self.memory)
        jobs = [
            (child, selection, *self._select(table, selection, child, where))
            for child, selection in self._active
        ]
        outputs = Parallel(n_jobs=self.n_jobs)(
            delayed(transform_child)(
                CachedChild(child, memory, key=self._fit_keys[selection.name]),
                data,
                selection,
                routed.get(selection.name, {}),
            )
            for child, selection, data, _ in jobs
        )
        blocks = []
        for (child, selection, _, present), output in zip(jobs, outputs, strict=True):
            width = self._widths[selection.name]
            blocks.append(as_block(selection, child, output, present, width)[0])
        self._check_absent(blocks)
        return self._assemble(blocks, self._fuse(self._impute(blocks)))

    def _fit(self, X, y, params, caller):
        check_triples(self.transformers, self)
        table = as_table(X)
        check_consistent_length(table, y)
        routed = self._routed(params, caller)
        # learn on a twin: a fit that fails half-way must not leave half of its state behind
        twin = object.__new__(type(self))
        twin.__dict__ = {key: v for key, v in vars(self).items() if not key.endswith("_")}
        fused = twin._learn(table, y, routed)
        self.__dict__ = twin.__dict__
        return fused

    def _learn(self, table, y, routed):
        """Everything `fit` does, on an unfitted self; return the fused features."""
        names = column_names(table)
        self.n_features_in_ = table.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        selections = self._resolve(table, names)
        seed = root_seed(self.random_state)
        children, blocks = self._fit_children(table, y, routed, selections, seed)
        self._check_absent(blocks)
        self._active = [(children[b.name], selections[b.name][1]) for b in blocks]
        self._widths = {block.name: block.width for block in blocks}
        self.transformers_ = [
            (name, children.get(name, transformer), selection.column)
            for name, (transformer, selection) in selections.items()
        ]
        zero = self.missing == "zero"
        self.fill_values_ = {
            b.name: np.zeros(b.width) if zero else mean_features(b.values) for b in blocks
        }
        fused = self._fit_fusion(self._impute(blocks, fit=True), y, seed)
        self._record_outputs(blocks, fused)
        return self._assemble(blocks, fused)

    # -------------------------------------------------------------------------- children

    def _resolve(self, table, names):
        """{name: (transformer, Selection)} of the triples and, where columns remain, the rest."""
        resolved = {}
        for triple in self.transformers:
            name, transformer, _ = triple
            selection = resolve(triple, table, names, self, wants=wants_column(transformer))
            resolved[name] = transformer, selection
        used = set(chain.from_iterable(selection.positions for _, selection in resolved.values()))
        rest = [i for i in range(table.shape[1]) if i not in used]
        if rest:
            triple = ("remainder", self.remainder, rest)
            wants = wants_column(self.remainder)
            resolved["remainder"] = self.remainder, resolve(triple, table, names, self, wants=wants)
        return resolved

    def _select(self, table, selection, child, where=None):
        return select_rows(table, selection, where, as_series=wants_column(child))

    def _locate(self, table):
        names_in = getattr(self, "feature_names_in_", None)
        table, where = locate(table, names_in, self.n_features_in_, self)
        warn_absent_columns([selection for _, selection in self._active], where, self)
        return table, where

    def _fit_children(self, table, y, routed, selections, seed):
        """Fit the transformers; return them by name, and the block each made."""
        active = [(t, s) for t, s in selections.values() if t != "drop" and s.positions]
        if not active:
            raise ValueError(
                f"{type(self).__name__}: every transformer is 'drop' or selects no column; "
                "there is nothing to fuse."
            )
        jobs, presence, memory = [], [], open_memory(self.memory)
        for i, (transformer, selection) in enumerate(active, start=1):
            child = seeded_clone(as_transformer(transformer), seed, selection.name)
            data, present = self._select(table, selection, child)
            if data is None:
                raise ValueError(
                    f"{type(self).__name__}: modality {selection.name!r} (column "
                    f"{selection.labels[0]!r}) has no present row among {len(table)}; nothing can "
                    "be learnt from it. Set it to 'drop'."
                )
            message = f"({i} of {len(active)}) Fitting {selection.name}" if self.verbose else None
            params = {k: take_params(v, present) for k, v in routed.get(selection.name, {}).items()}
            child = CachedChild(child, memory, f"FusionTransformer: modality {selection.name!r}")
            args = (child, data, take_rows(y, present), selection, params, message)
            jobs.append(delayed(fit_child)(*args))
            presence.append(present)
        fitted = Parallel(n_jobs=self.n_jobs)(jobs)
        children, blocks, self._frame_columns, self._fit_keys = {}, [], {}, {}
        results = zip(active, fitted, presence, strict=True)
        for (_, selection), (child, output), present in results:
            name = selection.name
            self._fit_keys[name] = child.key
            children[name] = child.estimator
            block, self._frame_columns[name] = as_block(selection, children[name], output, present)
            blocks.append(block)
        return children, blocks

    def _routed(self, params, caller):
        """{name: {method: parameters}} for every transformer."""
        params = {key: value for key, value in params.items() if value is not None}
        if _routing_enabled():
            return process_routing(self, caller, **params)
        allow = None if caller == "transform" else ["sample_weight", "groups"]
        _raise_for_params(params, self, caller, allow=allow)
        routed = {}
        for name, transformer in [*self._pairs, ("remainder", self.remainder)]:
            accepted = accepted_fit_params(transformer, params)
            routed[name] = Bunch(fit=accepted, fit_transform=accepted, transform={})
        return routed

    # -------------------------------------------------------------------------- protocol

    @property
    def named_transformers_(self):
        """The fitted transformers by name."""
        return Bunch(**{name: transformer for name, transformer, _ in self.transformers_})

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
            What each transformer requests.
        """
        router = MetadataRouter(owner=self)
        for name, transformer in [*self._pairs, ("remainder", self.remainder)]:
            if isinstance(transformer, str):
                continue
            mapping = MethodMapping().add(caller="transform", callee="transform")
            fits = ["fit_transform"] if hasattr(transformer, "fit_transform") else None
            for caller in ("fit", "fit_transform"):
                for callee in fits or ["fit", "transform"]:
                    mapping.add(caller=caller, callee=callee)
            router.add(method_mapping=mapping, **{name: transformer})
        return router

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32 whatever comes in
        try:
            children = [get_tags(t) for _, t in self._pairs if not isinstance(t, str)]
        except (TypeError, ValueError):  # malformed triples: `fit` says so
            return tags
        tags.target_tags.required = any(child.target_tags.required for child in children)
        # of a plain table; a cell that is NA is welcome always
        is_concat = isinstance(self.fusion, str) and self.fusion == "concat"
        passes = is_concat and self.missing != "impute"
        gaps = passes and all(child.input_tags.allow_nan for child in children)
        tags.input_tags.allow_nan = gaps
        return tags
