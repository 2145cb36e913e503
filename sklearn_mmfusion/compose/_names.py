"""Names of fused features."""

from collections import Counter

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_mmfusion._composition import wants_column
from sklearn_mmfusion._passthrough import is_passthrough
from sklearn_mmfusion._sklearn import _check_feature_names_in
from sklearn_mmfusion.cross_decomposition._base import BlockTransformer


class FeatureNamesMixin:
    """`get_feature_names_out` of a fitted `FusionTransformer`."""

    def get_feature_names_out(self, input_features=None):
        """Names of the fused features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X; must equal `feature_names_in_` where that is defined.

        Returns
        -------
        feature_names_out : ndarray of str objects
            ``modality__feature`` where a feature belongs to one modality, ``sum0`` and so on where
            a fusion has mixed them.
        """
        check_is_fitted(self)
        names = self._fused_names(_check_feature_names_in(self, input_features))
        if self.add_indicator:
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
            if self.verbose_feature_names_out is False:  # unique by number alone
                return [f"{fusion._feature_name}{i}" for i in range(self._n_fused)]
            return self._prefixed(fusion._names_by_block().items())
        if hasattr(fusion, "get_feature_names_out"):
            return [str(name) for name in fusion.get_feature_names_out()]
        kind = type(fusion).__name__.lower()
        return [f"{kind}{i}" for i in range(self._n_fused)]

    def _child_names(self, child, selection, names_in):
        """Names that a transformer gives its features, numbers where it gives none."""
        width = self._widths[selection.name]
        numbers = [str(i) for i in range(width)]
        columns = names_in[list(selection.positions)]
        if is_passthrough(child):
            return list(columns) if len(columns) == width else numbers
        if wants_column(child) and self.verbose_feature_names_out is not False:
            return numbers  # image__0 says all that image__imageencoder0 does
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
