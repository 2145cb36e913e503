"""Mixin of estimators with a trained network: warm starts, outputs, pickling."""

from dataclasses import replace
from pickle import PicklingError

import joblib
import numpy as np
import torch
from torch import nn

from sklearn_mmfusion._losses import resolve_loss
from sklearn_mmfusion._torch import (
    module_state,
    place_fitted,
    predict_batches,
    predict_row,
    rebuild_module,
)


def check_module(estimator):
    """Raise if the ``module`` parameter is an instance.

    Raises
    ------
    TypeError
    """
    if isinstance(estimator.module, nn.Module):
        raise TypeError(
            f"{type(estimator).__name__}: module={type(estimator.module).__name__}(...) is an "
            "instance; expected a class, because a clone would keep its trained weights. Pass "
            "the class as `module` and its arguments as `module_params`."
        )


def check_finite(outputs, rows, estimator_name):
    """Raise if the outputs of a network, of shape (n_samples, ...), are not finite."""
    if np.isfinite(outputs).all():
        return
    wrong = np.flatnonzero(~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1))
    first = (wrong if rows is None else rows[wrong])[:5].tolist()
    raise ValueError(
        f"{estimator_name}: the outputs of the network are NaN or infinite in {len(wrong)} of "
        f"{len(outputs)} rows (first {first}). The values of X there may be much larger than in "
        "training, or `module` returns NaN."
    )


def settings_of(params, ignored):
    """Return the parameters that are not ignored, with the types of estimators among them."""
    return {
        key: type(value) if hasattr(value, "get_params") else value
        for key, value in params.items()
        if key not in ignored
    }


def changed_settings(settings, before):
    """Return the names of the settings whose values have changed."""

    def equal(one, other):
        if one is other:
            return True
        try:
            return joblib.hash(one) == joblib.hash(other)
        except (PicklingError, TypeError, AttributeError):
            return False

    names = dict.fromkeys([*settings, *before])
    return [key for key in names if not equal(settings.get(key), before.get(key))]


def check_same_settings(settings, before, estimator_name, part=False):
    """Raise if settings that a warm start, or `partial_fit`, keeps differ from the last fit's."""
    changed = changed_settings(settings, before)
    if changed:
        names = ", ".join(changed[:5])
        if part:
            raise ValueError(
                f"{estimator_name}: {names} changed since the last call, but partial_fit keeps "
                "vocabulary, scales and sizes of the first one. Call fit to start again."
            )
        raise ValueError(
            f"{estimator_name}: warm_start=True, but {names} changed since the last fit, and a "
            "warm start keeps its encoders. Set warm_start=False."
        )


def has_evidence(estimator):
    """Check that the (fitted or set) loss is the evidential one; for `available_if`."""
    loss = getattr(estimator, "_fitted_loss", estimator.loss)
    if loss != "evidential":
        raise AttributeError(
            f"{type(estimator).__name__} has loss={loss!r}; evidence needs loss='evidential'."
        )
    return True


class FittedNetworkMixin:
    """Estimator with a trained network ``module_``.

    ``_target`` and ``_fitted_loss`` decode its outputs. Subclasses define ``_build_module()``,
    which makes an untrained network. It must use fitted attributes only: unpickling calls it, and
    the parameters may have changed since the fit.
    """

    def _remember_target(self, target, warm):
        """Store what decodes the outputs; return the weights for a warm start, or None."""
        weights = None
        if warm:
            self._check_same_classes(target)
            weights = module_state(self.module_)
        loss = resolve_loss(self.loss, target.kind, type(self).__name__)
        self._target, self._fitted_loss = replace(target, values=None), loss
        self._n_outputs = target.n_outputs
        return weights

    def _check_same_classes(self, target):
        before = self._target
        names = [list(getattr(t, "targets", ())) for t in (before, target)]
        same = before.kind == target.kind and names[0] == names[1]
        if not same or joblib.hash(before.classes) != joblib.hash(target.classes):
            raise ValueError(
                f"{type(self).__name__}: warm_start=True, but y has classes {target.classes} "
                f"({target.kind}) and the fitted network has {before.classes} ({before.kind}). "
                "Set warm_start=False."
            )

    def _outputs(self, module, inputs, method="forward", rows=None):
        """Outputs of the network, or of a part of it, over all rows.

        Parameters
        ----------
        module : torch.nn.Module
        inputs : Inputs or FusionInputs
        method : str, default="forward"
        rows : ndarray of int, default=None
            Numbers of the rows in X, for messages; None if they are all of X.

        Returns
        -------
        outputs : ndarray of shape (n_samples, ...), dtype=float32

        Raises
        ------
        ValueError
            If an output is NaN or infinite.
        """
        is_whole = module is self.module_ and method == "forward"
        if len(inputs) == 1 and is_whole and not module.training:
            return self._row_outputs(inputs, rows)
        device = place_fitted(self.module_, self.device, type(self).__name__)
        outputs = predict_batches(module, inputs, device=device, method=method)
        check_finite(outputs, rows, type(self).__name__)
        return outputs

    def _row_outputs(self, inputs, rows=None):
        """Outputs of the network for one row: ndarray of shape (1, ...), dtype=float32."""
        device = place_fitted(self.module_, self.device, type(self).__name__)
        captures = (self.net_params or {}).get("cuda_graph") is not False
        outputs = predict_row(self.module_, inputs, device, captures)
        check_finite(outputs, rows, type(self).__name__)
        return outputs

    def __getstate__(self):
        # numpy arrays only, so that no GPU is needed to unpickle
        state = dict(super().__getstate__())
        if "module_" in state:
            state["module_"] = [
                {name: value.detach().cpu().numpy() for name, value in part.items()}
                for part in module_state(state["module_"])
            ]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if isinstance(state.get("module_"), list):
            # copied, because memory-mapped arrays are read-only
            arrays = [
                {name: torch.from_numpy(np.array(value)) for name, value in part.items()}
                for part in state["module_"]
            ]
            self.module_ = rebuild_module(self._build_module, arrays).eval()
