"""The only file that imports private scikit-learn names.

Everything below is re-exported for the rest of the package, so that a scikit-learn release that
moves or renames a private helper needs a change in this file only.
"""

from sklearn.base import _fit_context
from sklearn.ensemble._base import _set_random_states
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import _name_estimators
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    StrOptions,
)
from sklearn.utils._repr_html.estimator import _VisualBlock
from sklearn.utils._set_output import _get_output_config
from sklearn.utils._user_interface import _message_with_time
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    _check_method_params,
    _get_feature_names,
    _num_samples,
    validate_data,
)

__all__ = [
    "BaseSearchCV",
    "HasMethods",
    "Hidden",
    "Interval",
    "MetadataRouter",
    "MethodMapping",
    "StrOptions",
    "_BaseComposition",
    "_VisualBlock",
    "_check_feature_names",
    "_check_feature_names_in",
    "_check_method_params",
    "_fit_context",
    "_get_feature_names",
    "_get_output_config",
    "_name_estimators",
    "_num_samples",
    "_message_with_time",
    "_raise_for_params",
    "_routing_enabled",
    "_safe_indexing",
    "_set_random_states",
    "process_routing",
    "validate_data",
]
