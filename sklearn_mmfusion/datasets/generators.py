"""Generated problems with a planted signal in every modality.

Each class, label or cause is one *factor*. A row's factors have activations from 0 to 1, and each
modality renders the same activations in its own way: a grating in the image, words of its own in
the text, a tone in the sound, a loop in the point cloud, a circling dot in the video. Gratings and
tones have random phases, so that a linear model on raw pixels or samples sees nothing.
"""

from numbers import Real

import numpy as np

from sklearn_mmfusion._validation import check_count, draw_seed
from sklearn_mmfusion.containers import TensorArray
from sklearn_mmfusion.datasets.shared import as_bunch, build_frame, stream

SAMPLE_RATE = 8000
IMAGE_SIZE = 16
COMMON_WORDS = 30


def render_image(activations, noise, rng):
    """Draw one grating per factor, in its own direction, plus noise: (n, 16, 16) uint8."""
    n_samples, n_factors = activations.shape
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    large = np.zeros((n_samples, IMAGE_SIZE, IMAGE_SIZE))
    for factor, amplitude in enumerate(activations.T):
        angle = np.pi * factor / n_factors
        period = 4.0 + 2.0 * (factor % 2)
        ramp = 2 * np.pi / period * (rows * np.sin(angle) + columns * np.cos(angle))
        phases = rng.uniform(0, 2 * np.pi, size=(n_samples, 1, 1))
        large += amplitude[:, None, None] * np.sin(ramp + phases)
    large += 3 * noise * rng.standard_normal(large.shape)
    return TensorArray._adopt(np.round(255 * (0.5 + 0.1 * large).clip(0, 1)).astype(np.uint8))


def render_text(activations, noise, rng):
    """Write 6 to 14 words per row: common ones, and ones that only an active factor uses."""
    n_factors = activations.shape[1]
    vocabulary = invent_words(COMMON_WORDS + 6 * n_factors, rng)
    common, special = vocabulary[:COMMON_WORDS], vocabulary[COMMON_WORDS:]
    texts = []
    for active in activations:
        words = []
        for _ in range(rng.randint(6, 15)):
            factor = rng.randint(n_factors)
            if rng.uniform() < active[factor] / (1 + 2 * noise):
                words.append(special[6 * factor + rng.randint(6)])
            else:
                words.append(common[rng.randint(COMMON_WORDS)])
        texts.append(" ".join(words))
    return texts


def invent_words(n_words, rng):
    """Return different pronounceable words of two or three syllables."""
    words = []
    while len(words) < n_words:
        pairs = [("bdfgklmnprstvz"[rng.randint(14)], "aeiou"[rng.randint(5)]) for _ in range(3)]
        word = "".join(map("".join, pairs[: rng.randint(2, 4)]))
        if word not in words:
            words.append(word)
    return words


def render_audio(activations, noise, rng):
    """Synthesize one tone per factor in half of 0.1 to 0.3 s, plus noise: ragged float32."""
    n_factors = activations.shape[1]
    frequencies = np.geomspace(350, 3000, n_factors)
    recordings = []
    for active in activations:
        n_steps = rng.randint(800, 2400)
        t = np.arange(n_steps) / SAMPLE_RATE
        phases = rng.uniform(0, 2 * np.pi, size=(n_factors, 1))
        tones = np.sin(2 * np.pi * frequencies[:, None] * t + phases)
        start = rng.randint(n_steps // 2)
        sounding = (np.arange(n_steps) >= start) & (np.arange(n_steps) < start + n_steps // 2)
        sound = (active @ tones) * sounding + 3 * noise * rng.standard_normal(n_steps)
        recordings.append((sound / (4 + 12 * noise)).clip(-1, 1).astype(np.float32))
    return TensorArray(recordings, sample_rate=SAMPLE_RATE)


def render_point_cloud(activations, noise, rng):
    """Draw one loop per factor, in its own plane, among stray points: ragged (n_points, 3)."""
    n_factors = activations.shape[1]
    clouds = []
    for active in activations:
        n_points = rng.randint(40, 80)
        stray = rng.normal(size=(n_points, 3))
        factor = rng.randint(n_factors, size=n_points)
        around = rng.uniform(0, 2 * np.pi, size=n_points)
        tilt = np.pi * factor / n_factors
        loop = 2.5 * np.cos(around)[:, None] * np.stack([np.cos(tilt), np.sin(tilt), 0 * tilt], 1)
        loop[:, 2] = 2.5 * np.sin(around)
        drawn = rng.uniform(size=n_points) < active[factor] / (1 + 0.5 * noise)
        points = np.where(drawn[:, None], loop, stray)
        clouds.append((points + 0.1 * noise * stray).astype(np.float32))
    return TensorArray(clouds)


def render_sequence(activations, noise, rng):
    """Let one oscillation per factor circle through two of three channels: ragged (n_steps, 3)."""
    n_factors = activations.shape[1]
    frequencies = np.geomspace(0.04, 0.3, n_factors)  # per step
    sequences = []
    for active in activations:
        n_steps = rng.randint(30, 70)
        phases = rng.uniform(0, 2 * np.pi, size=n_factors)
        angle = 2 * np.pi * np.arange(n_steps)[:, None] * frequencies + phases
        waves = np.stack([np.sin(angle) @ active, np.cos(angle) @ active, np.zeros(n_steps)], 1)
        stray = rng.normal(size=(n_steps, 3))
        sequences.append((waves + noise * stray).astype(np.float32))
    return TensorArray(sequences)


def render_video(activations, noise, rng):
    """Let one dot per factor circle at its own speed and turn: ragged (n_frames, 16, 16) uint8.

    The number of frames is a prime: every dot visits the same places, however many turns it makes,
    and only their order differs. The average of the frames does not depend on the class.
    """
    n_factors = activations.shape[1]
    turns = np.array([(factor // 2 + 1) * (-1) ** factor for factor in range(n_factors)])
    numbers = range(n_factors + 7, 2 * n_factors + 20)
    primes = [n for n in numbers if all(n % d for d in range(2, n))][:2]
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] - (IMAGE_SIZE - 1) / 2
    clips = []
    for active in activations:
        n_frames = primes[rng.randint(2)]
        start = rng.uniform(0, 2 * np.pi, size=n_factors)
        angles = start + 2 * np.pi * np.arange(n_frames)[:, None] * turns / n_frames
        ups, acrosses = 5 * np.sin(angles)[..., None, None], 5 * np.cos(angles)[..., None, None]
        dots = np.exp(-((rows - ups) ** 2 + (columns - acrosses) ** 2) / 3)
        frames = np.tensordot(dots, active, (1, 0))
        frames += 0.2 * noise * rng.normal(size=frames.shape)
        clips.append(np.round(255 * (0.3 + 0.4 * frames).clip(0, 1)).astype(np.uint8))
    return TensorArray(clips)


RENDERERS = {
    "image": render_image,
    "text": render_text,
    "audio": render_audio,
    "point_cloud": render_point_cloud,
    "sequence": render_sequence,
    "video": render_video,
}


def make_multimodal_classification(
    n_samples=300,
    n_classes=3,
    *,
    modalities=("image", "text", "audio"),
    informative=None,
    noise=1.0,
    missing_rate=0.0,
    random_state=None,
    return_X_y=True,
):
    """Generate a classification problem over images, text and sound.

    Each class has a grating in the image, words in the text and a tone in the sound; every
    modality is independent of the others given the class.

    Parameters
    ----------
    n_samples : int, default=300
        Number of rows.
    n_classes : int, default=3
        Number of classes, equally frequent.
    modalities : sequence of str, default=("image", "text", "audio")
        Columns to make: "image", "text", "audio", "point_cloud", "sequence", "video". A modality
        looks the same whatever others are made.
    informative : sequence of str, default=None
        Modalities that depend on the class; the others show the class of another row, drawn at
        random. None: all.
    noise : float or dict of str to float, default=1.0
        How hard each modality is: 0 is easy, 3 is hard. A dict sets it per modality; those it does
        not name have 1.
    missing_rate : float, default=0.0
        Probability that a cell is absent, from 0 to below 1; every row keeps one modality.
    random_state : int, RandomState instance or None, default=None
        Source of randomness.
    return_X_y : bool, default=True
        Return `(X, y)`; otherwise a Bunch with `data` and `target`.

    Returns
    -------
    X : pandas.DataFrame of shape (n_samples, n_modalities)
        `image` a `TensorArray` of (16, 16) uint8, `text` strings, `audio` a ragged `TensorArray`
        of float32 in [-1, 1] with `sample_rate` 8000, `point_cloud` one of (n_points, 3) float32,
        `sequence` one of (n_steps, 3) float32, `video` one of (n_frames, 16, 16) uint8.
    y : ndarray of shape (n_samples,), dtype=int64
        Class, from 0.

    Raises
    ------
    ValueError
        If a modality is unknown or a number is out of its range.

    Notes
    -----
    About 0.2 s for 1 000 rows.

    Examples
    --------
    >>> from sklearn_mmfusion import make_multimodal_classification
    >>> X, y = make_multimodal_classification(n_samples=6, random_state=0)
    >>> list(X.columns), X.shape
    (['image', 'text', 'audio'], (6, 3))
    >>> sorted(y.tolist())
    [0, 0, 1, 1, 2, 2]
    """
    check_count("n_samples", n_samples, 1)
    check_count("n_classes", n_classes, 2)
    seed = draw_seed(random_state)
    y = stream(seed, "target").permutation(np.arange(n_samples, dtype=np.int64) % n_classes)
    X = render(np.eye(n_classes)[y], modalities, informative, noise, missing_rate, seed)
    return as_bunch(X, y, return_X_y)


def make_multimodal_multilabel_classification(
    n_samples=300,
    n_labels=4,
    *,
    modalities=("image", "text", "audio"),
    informative=None,
    noise=1.0,
    missing_rate=0.0,
    random_state=None,
    return_X_y=True,
):
    """Generate a multilabel problem over images, text and sound.

    As `make_multimodal_classification`, but a row shows any number of gratings, tones and sets
    of words at once.

    Parameters
    ----------
    n_samples : int, default=300
        Number of rows.
    n_labels : int, default=4
        Number of labels; each applies to 40 % of the rows, independently.
    modalities : sequence of str, default=("image", "text", "audio")
        Columns to make, as in `make_multimodal_classification`.
    informative : sequence of str, default=None
        Modalities that depend on the labels; the others show those of another row. None: all.
    noise : float or dict of str to float, default=1.0
        How hard each modality is: 0 is easy, 3 is hard.
    missing_rate : float, default=0.0
        Probability that a cell is absent, from 0 to below 1; every row keeps one modality.
    random_state : int, RandomState instance or None, default=None
        Source of randomness.
    return_X_y : bool, default=True
        Return `(X, y)`; otherwise a Bunch with `data` and `target`.

    Returns
    -------
    X : pandas.DataFrame of shape (n_samples, n_modalities)
        Columns as in `make_multimodal_classification`.
    y : ndarray of shape (n_samples, n_labels), dtype=int64
        1 where a label applies.

    Raises
    ------
    ValueError
        If a modality is unknown or a number is out of its range.

    Examples
    --------
    >>> from sklearn_mmfusion.datasets import make_multimodal_multilabel_classification
    >>> X, y = make_multimodal_multilabel_classification(n_samples=6, random_state=0)
    >>> X.shape, y.shape
    ((6, 3), (6, 4))
    """
    check_count("n_samples", n_samples, 1)
    check_count("n_labels", n_labels, 1)
    seed = draw_seed(random_state)
    y = (stream(seed, "target").uniform(size=(n_samples, n_labels)) < 0.4).astype(np.int64)
    X = render(y.astype(float), modalities, informative, noise, missing_rate, seed)
    return as_bunch(X, y, return_X_y)


def make_multimodal_regression(
    n_samples=300,
    n_factors=4,
    *,
    modalities=("image", "text", "audio"),
    informative=None,
    noise=1.0,
    missing_rate=0.0,
    random_state=None,
    return_X_y=True,
):
    """Generate a regression problem over images, text and sound.

    The target is a weighted sum of factors, each of which is a grating's contrast, a tone's
    loudness and how often some words are used.

    Parameters
    ----------
    n_samples : int, default=300
        Number of rows.
    n_factors : int, default=4
        Number of factors behind the target, each uniform from 0 to 1.
    modalities : sequence of str, default=("image", "text", "audio")
        Columns to make, as in `make_multimodal_classification`.
    informative : sequence of str, default=None
        Modalities that depend on the factors; the others show those of another row. None: all.
    noise : float or dict of str to float, default=1.0
        How hard each modality is: 0 is easy, 3 is hard.
    missing_rate : float, default=0.0
        Probability that a cell is absent, from 0 to below 1; every row keeps one modality.
    random_state : int, RandomState instance or None, default=None
        Source of randomness.
    return_X_y : bool, default=True
        Return `(X, y)`; otherwise a Bunch with `data` and `target`.

    Returns
    -------
    X : pandas.DataFrame of shape (n_samples, n_modalities)
        Columns as in `make_multimodal_classification`.
    y : ndarray of shape (n_samples,), dtype=float64
        Target: the factors weighted by -1 to 1.

    Raises
    ------
    ValueError
        If a modality is unknown or a number is out of its range.

    Examples
    --------
    >>> from sklearn_mmfusion.datasets import make_multimodal_regression
    >>> X, y = make_multimodal_regression(n_samples=6, random_state=0)
    >>> X.shape, y.shape
    ((6, 3), (6,))
    """
    check_count("n_samples", n_samples, 1)
    check_count("n_factors", n_factors, 1)
    seed = draw_seed(random_state)
    rng = stream(seed, "target")
    activations = rng.uniform(size=(n_samples, n_factors))
    # Evenly spread, so that no factor is ever negligible.
    weights = rng.permutation(np.linspace(-1, 1, n_factors)) if n_factors > 1 else np.ones(1)
    X = render(activations, modalities, informative, noise, missing_rate, seed)
    return as_bunch(X, activations @ weights, return_X_y)


def render(activations, modalities, informative, noise, missing_rate, seed):
    """Return the frame in which every modality shows the activations.

    Parameters
    ----------
    activations : ndarray of shape (n_samples, n_factors), dtype=float64
        What each row shows, in [0, 1].
    modalities, informative, noise, missing_rate
        As in the public functions.
    seed : int
        Seed of the data set.

    Returns
    -------
    X : pandas.DataFrame of shape (n_samples, n_modalities)
        The frame.
    """
    modalities = check_modalities("modalities", modalities, RENDERERS)
    if not modalities:
        raise ValueError(f"modalities is empty; expected some of {list(RENDERERS)}.")
    informative = modalities if informative is None else informative
    informative = check_modalities("informative", informative, modalities)
    check_modalities("noise", noise if isinstance(noise, dict) else (), modalities)
    columns = {}
    for name in modalities:
        rng = stream(seed, name)
        shown = activations if name in informative else rng.permutation(activations)
        level = noise.get(name, 1.0) if isinstance(noise, dict) else noise
        if not isinstance(level, Real) or level < 0:
            raise ValueError(f"noise={level!r} for {name!r}; expected a number of at least 0.")
        columns[name] = RENDERERS[name](shown, float(level), rng)
    return build_frame(columns, missing_rate, seed)


def check_modalities(parameter, names, known):
    """Return the names as a list; raise unless every one is known and none comes twice."""
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"{parameter} names {names}; expected distinct names from {list(known)}.")
    return names
