"""Contributions of modalities and of their interactions to the score of an estimator."""

from math import factorial

import numpy as np
from sklearn.utils import Bunch

from sklearn_mmfusion._validation import check_count
from sklearn_mmfusion.inspection.coalitions import CoalitionScores

EXACT = 8  # modalities: up to here all coalitions are scored


def modality_importance(
    estimator,
    X,
    y,
    *,
    scoring=None,
    modalities=None,
    absent="auto",
    n_repeats=1,
    n_permutations=50,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Compute the contribution of each modality to the score of a fitted estimator.

    The contributions are the Shapley values of the score [1]_: the gain in score when a modality
    joins others, averaged over all orders in which modalities can join. They add up to the score
    with all modalities minus the score with none. Two modalities with the same information share
    its contribution. A modality that the estimator does not use contributes 0.

    Parameters
    ----------
    estimator : estimator
        Fitted; any estimator that predicts from the columns of X.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows that the estimator was not trained on.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        True values.
    scoring : str, callable or None, default=None
        One scorer, as in :func:`~sklearn.metrics.check_scoring`. None means the estimator's
        `score`.
    modalities : dict of {str: column or list of columns} or None, default=None
        The columns of each modality. None means the triples of a `FusionTransformer`, late or joint
        fusion, which may be in a pipeline or a search; otherwise one modality per column.
    absent : {"auto", "mask", "permute"}, default="auto"
        How a modality is made absent in all rows.

        - ``"mask"``: the estimator predicts without it. Estimators of this package treat its triple
          as absent: late fusion leaves it out, joint fusion masks it, and a `FusionTransformer`
          replaces its features (`missing`). For other estimators, its cells become NA.
        - ``"permute"``: its cells are shuffled among the rows, all columns of the modality
          together. Each modality has its own order, the same in all coalitions of a repeat.
        - ``"auto"``: mask if the estimator can predict without the modality, otherwise permute.
    n_repeats : int, default=1
        Number of permutations of the rows, if any modality is permuted.
    n_permutations : int, default=50
        Number of random orders of the modalities, if there are more than eight.
    n_jobs : int or None, default=None
        Number of threads that compute scores.
    random_state : int, RandomState instance or None, default=None
        Seed of all permutations. The result does not depend on `n_jobs`.
    verbose : int, default=0
        Whether to print each score.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With the attributes:

        - modalities : list of str
        - importances : ndarray of shape (n_modalities,)
        - standard_errors : ndarray of shape (n_modalities,), due to the sampled orders and the
          permuted rows; 0 if exact, NaN if rows are permuted only once
        - score_all, score_none : float, the score with all modalities and with none
        - coalitions : DataFrame, one bool column per modality and the column "score"
        - absent : dict of {str: "mask" or "permute"}
        - scorer : str

    Raises
    ------
    ValueError
        If `scoring` returns several scores, or a parameter has no valid value.

    See Also
    --------
    modality_interaction : The contribution of pairs.
    modality_ablation : The scores themselves, also of refitted estimators.
    sklearn.inspection.permutation_importance : Importance of single columns.

    Notes
    -----
    With up to eight modalities, all :math:`2^m` coalitions (subsets) are scored, and the values are
    exact for the given rows. Other rows would give other values; the standard error does not
    include this. The estimators of this package encode each row once, not once per coalition.
    Others predict at most :math:`2^m` times if rows are permuted only once. The warnings of this
    package about rows and columns without any modality are silenced: such rows get the prior, or
    the fill values of a `FusionTransformer`.

    References
    ----------
    .. [1] Shapley (1953). "A value for n-person games." Contributions to the Theory of Games II.
       The sampled form: Castro, Gomez, Tejada (2009), doi:10.1016/j.cor.2008.04.004

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_mmfusion import LateFusionClassifier, multimodal_frame
    >>> from sklearn_mmfusion.inspection import modality_importance
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = multimodal_frame(
    ...     sound=y[:, None] + rng.normal(size=(200, 3)), image=rng.normal(size=(200, 3))
    ... )
    >>> late = LateFusionClassifier(
    ...     [("sound", LogisticRegression(), "sound"), ("image", LogisticRegression(), "image")]
    ... )
    >>> result = modality_importance(late.fit(X[:100], y[:100]), X[100:], y[100:])
    >>> result.modalities
    ['sound', 'image']
    >>> bool(result.importances[0] > 5 * abs(result.importances[1]))
    True
    >>> bool(np.isclose(sum(result.importances), result.score_all - result.score_none))
    True
    """
    game = CoalitionScores(
        estimator,
        X,
        y,
        scoring=scoring,
        modalities=modalities,
        absent=absent,
        n_repeats=n_repeats,
        n_jobs=n_jobs,
        random_state=random_state,
        verbose=verbose,
        caller="modality_importance",
    )
    samples = sample(game, shapley_values, sampled_shapley_values, n_permutations)
    importances, standard_errors = summarize(samples, any(game.permuted))
    score_none, score_all = game([0, 2 ** len(game.names) - 1]).mean(axis=0)
    return Bunch(
        modalities=game.names,
        importances=importances,
        standard_errors=standard_errors,
        score_all=float(score_all),
        score_none=float(score_none),
        coalitions=game.table(),
        absent=game.absent_by_name(),
        scorer=game.scorer,
    )


def modality_interaction(
    estimator,
    X,
    y,
    *,
    scoring=None,
    modalities=None,
    absent="auto",
    n_repeats=1,
    n_permutations=50,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Compute how much each pair of modalities adds to the score beyond its two members.

    The result is the Shapley interaction index [1]_: the gain from both modalities minus the gains
    from each one alone, averaged over the coalitions that they can join. It is positive if the
    modalities complement each other, negative if they are redundant, and zero if their gains add
    up.

    Parameters
    ----------
    estimator : estimator
        Fitted; any estimator that predicts from the columns of X.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows that the estimator was not trained on.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        True values.
    scoring : str, callable or None, default=None
        One scorer; None means the estimator's `score`.
    modalities : dict of {str: column or list of columns} or None, default=None
        The columns of each modality, see `modality_importance`.
    absent : {"auto", "mask", "permute"}, default="auto"
        How a modality is made absent in all rows, see `modality_importance`.
    n_repeats : int, default=1
        Number of permutations of the rows, if any modality is permuted.
    n_permutations : int, default=50
        Number of random orders of the modalities, if there are more than eight.
    n_jobs : int or None, default=None
        Number of threads that compute scores.
    random_state : int, RandomState instance or None, default=None
        Seed of all permutations. The result does not depend on `n_jobs`.
    verbose : int, default=0
        Whether to print each score.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With the attributes:

        - modalities : list of str
        - interactions : ndarray of shape (n_modalities, n_modalities), symmetric, with a diagonal
          of zeros
        - standard_errors : ndarray of the same shape, 0 if exact, NaN if rows are permuted only
          once
        - coalitions : DataFrame, one bool column per modality and the column "score"
        - absent : dict of {str: "mask" or "permute"}
        - scorer : str

    Raises
    ------
    ValueError
        If `scoring` returns several scores, or a parameter has no valid value.

    See Also
    --------
    modality_importance : The contribution of single modalities.

    Notes
    -----
    With :math:`n` modalities, the index of :math:`i` and :math:`j` is

    .. math:: \\sum_S \\frac{(n - |S| - 2)! \\, |S|!}{(n - 1)!}
       (v(S \\cup ij) - v(S \\cup i) - v(S \\cup j) + v(S))

    over all sets :math:`S` of other modalities. If accuracies are near 1, strong modalities look
    redundant, because a second one has little left to add.

    References
    ----------
    .. [1] Grabisch, Roubens (1999). "An axiomatic approach to the concept of interaction among
       players in cooperative games." Int. J. Game Theory 28, eq. 3. doi:10.1007/s001820050125

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_mmfusion.inspection import modality_interaction
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(2, size=(300, 3)).astype(float)
    >>> y = (X[:, 0] != X[:, 1]).astype(int)
    >>> tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    >>> result = modality_interaction(tree, X, y, absent="permute", random_state=0)
    >>> result.modalities
    ['0', '1', '2']
    >>> bool(result.interactions[0, 1] > 0.4), bool(abs(result.interactions[0, 2]) < 0.05)
    (True, True)
    """
    game = CoalitionScores(
        estimator,
        X,
        y,
        scoring=scoring,
        modalities=modalities,
        absent=absent,
        n_repeats=n_repeats,
        n_jobs=n_jobs,
        random_state=random_state,
        verbose=verbose,
        caller="modality_interaction",
    )
    samples = sample(game, shapley_interactions, sampled_shapley_interactions, n_permutations)
    interactions, standard_errors = summarize(samples, any(game.permuted))
    return Bunch(
        modalities=game.names,
        interactions=interactions,
        standard_errors=standard_errors,
        coalitions=game.table(),
        absent=game.absent_by_name(),
        scorer=game.scorer,
    )


# ------------------------------------------------------------------------------ arithmetic
# A game is a function from an array of coalitions, as integers with one bit per player, to their
# values, of shape (n_repeats, n_coalitions).


def sample(game, exact, sampled, n_permutations):
    """Return the values of a function of the game: (n_repeats, n_orders, ...), one order if exact.

    Parameters
    ----------
    game : CoalitionScores
    exact : callable
        Computes the function from the values of all coalitions.
    sampled : callable
        Computes it from the game and orders of the players.
    n_permutations : int
    """
    n_players = len(game.names)
    if n_players <= EXACT:
        return exact(game(np.arange(2**n_players)))[:, None]
    # a standard error needs two orders
    check_count(f"{game.caller}: n_permutations", n_permutations, 2)
    rng = np.random.default_rng(game.seed)
    orders = rng.permuted(np.tile(np.arange(n_players), (n_permutations, 1)), axis=1)
    return sampled(game, orders)


def summarize(samples, is_permuted):
    """Return mean and standard error over repeats and orders: the first two axes."""
    n_repeats, n_orders = samples.shape[:2]
    variance = np.zeros(samples.shape[2:])
    if n_orders > 1:
        variance += samples.mean(axis=0).var(axis=0, ddof=1) / n_orders
    if n_repeats > 1:
        variance += samples.mean(axis=1).var(axis=0, ddof=1) / n_repeats
    elif is_permuted:
        variance[:] = np.nan
    return samples.mean(axis=(0, 1)), np.sqrt(variance)


def sizes_of(coalitions):
    """Number of players in each coalition."""
    return np.array([int(c).bit_count() for c in coalitions])


def shapley_values(values):
    """Shapley values of a game: (..., 2**m) -> (..., m)."""
    n_players = values.shape[-1].bit_length() - 1
    coalitions = np.arange(values.shape[-1])
    weights = [
        factorial(s) * factorial(n_players - s - 1) / factorial(n_players) for s in range(n_players)
    ]
    result = np.empty((*values.shape[:-1], n_players))
    for i in range(n_players):
        others = coalitions[coalitions >> i & 1 == 0]
        gains = values[..., others | 1 << i] - values[..., others]
        result[..., i] = gains @ np.take(weights, sizes_of(others))
    return result


def shapley_interactions(values):
    """Shapley interaction indices of a game: (..., 2**m) -> (..., m, m)."""
    n_players = values.shape[-1].bit_length() - 1
    coalitions = np.arange(values.shape[-1])
    weights = [
        factorial(s) * factorial(n_players - s - 2) / factorial(n_players - 1)
        for s in range(n_players - 1)
    ]
    result = np.zeros((*values.shape[:-1], n_players, n_players))
    for i in range(n_players):
        for j in range(i):
            others = coalitions[(coalitions >> i | coalitions >> j) & 1 == 0]
            joint = joint_gains(lambda c: values[..., c], others, 1 << i, 1 << j)
            result[..., i, j] = result[..., j, i] = joint @ np.take(weights, sizes_of(others))
    return result


def joint_gains(game, others, i, j):
    """Gain from two players (as bits) beyond their single gains, by the players before them."""
    return game(others | i | j) - game(others | i) - game(others | j) + game(others)


def as_bits(players):
    """Coalitions of one player each: integers of Python, as those of numpy have 64 bits only."""
    return 1 << players.astype(object)


def sampled_shapley_values(game, orders):
    """Gains of all players in some orders: (n_repeats, n_orders, m), on average Shapley values."""
    n_orders, n_players = orders.shape
    before = np.zeros((n_orders, n_players + 1), dtype=object)
    before[:, 1:] = np.cumsum(as_bits(orders), axis=1)
    gains = np.diff(game(before.ravel()).reshape(-1, *before.shape), axis=2)
    return np.take_along_axis(gains, np.argsort(orders, axis=1)[None], axis=2)


def sampled_shapley_interactions(game, orders):
    """Joint gains of all pairs in some orders: (n_repeats, n_orders, m, m).

    The players of a pair join one after another, where the first of both stands in the order.
    """
    n_orders, n_players = orders.shape
    ranks = np.argsort(orders, axis=1)
    before = np.cumsum(as_bits(orders), axis=1) - as_bits(orders)
    before = np.take_along_axis(before, ranks, axis=1)  # by player
    pairs = [(i, j) for i in range(n_players) for j in range(i)]
    others = np.stack([before[:, i] & ~(1 << j) for i, j in pairs], axis=1)
    bits = [np.tile(as_bits(players), n_orders) for players in np.transpose(pairs)]
    joint = joint_gains(game, others.ravel(), *bits)
    joint = joint.reshape(-1, *others.shape)
    result = np.zeros((len(joint), n_orders, n_players, n_players))
    for k, (i, j) in enumerate(pairs):
        result[..., i, j] = result[..., j, i] = joint[..., k]
    return result
