"""SequenceEncoder: order, channels, forms of input, what is refused."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import SequenceEncoder
from tests._registry import MODALITIES, N_ROWS, SMALL, classes, sequences

make = MODALITIES["sequence"].make


def ordered(n, rng):
    """Two bumps of different channels in ragged noise; the class is which one comes first."""
    y = np.arange(n) % 2
    cells = []
    for label in y:
        length = rng.integers(30, 60)
        places = np.sort(rng.choice(np.arange(3, length - 3, 6), 2, replace=False))
        cell = 0.3 * rng.normal(size=(length, 2))
        for place, channel in zip(places, (label, 1 - label), strict=True):
            cell[place - 1 : place + 2, channel] += 3
        cells.append(cell.astype(np.float32))
    return cells, y


def moments(cells):
    return np.stack([np.concatenate([c.mean(0), c.std(0), c.min(0), c.max(0)]) for c in cells])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["crnn", "gru", "lstm", "tcn"])
def test_order_of_events_is_learned_where_moments_are_at_chance(architecture):
    rng = np.random.default_rng(0)
    (cells, y), (others, expected) = ordered(300, rng), ordered(300, rng)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(moments(cells), y)
    assert plain.score(moments(others), expected) < 0.6
    encoder = SequenceEncoder(architecture=architecture, random_state=0).fit(cells, y)
    assert (encoder.predict_head(others).argmax(1) == expected).mean() > 0.9


def test_scale_is_that_of_all_steps():
    encoder = make().fit(sequences(), classes())
    steps = np.concatenate(sequences())
    np.testing.assert_allclose(encoder.mean_, steps.mean(0), atol=1e-6)
    np.testing.assert_allclose(encoder.scale_, steps.std(0), rtol=1e-5)


@pytest.mark.parametrize("architecture", ["crnn", "gru", "lstm", "tcn"])
def test_every_architecture_reads_one_step(architecture):
    cells = [*sequences()[:-1], sequences()[-1][:1]]
    encoder = SequenceEncoder(architecture=architecture, **SMALL).fit(cells, classes())
    assert np.isfinite(encoder.transform(cells)).all()


def test_one_channel_has_three_forms(tmp_path):
    ragged = [cell[:, 0] for cell in sequences()]
    expected = make().fit([cell[:, None] for cell in ragged], classes())
    assert expected.mean_.shape == (1,)
    flat = make().fit(ragged, classes())
    np.testing.assert_array_equal(
        flat.transform(ragged), expected.transform([cell[:, None] for cell in ragged])
    )
    rows = np.stack([cell[:6] for cell in ragged])
    np.testing.assert_array_equal(
        make().fit(rows, classes()).transform(rows),
        make().fit(list(rows[..., None]), classes()).transform(list(rows[..., None])),
    )
    names = [str(tmp_path / f"{i}.npy") for i in range(N_ROWS)]
    for name, cell in zip(names, ragged, strict=True):
        np.save(name, cell)
    np.testing.assert_array_equal(
        make().fit(names, classes()).transform(names), flat.transform(ragged)
    )


def test_channels_far_from_zero_keep_their_digits():
    near = [np.round(cell.astype(float) * 2**10) / 2**20 for cell in sequences()]
    far = [cell + [2.0**23, 0, -(2.0**19)] for cell in near]  # exact in float64
    encoder, moved = make().fit(near, classes()), make().fit(far, classes())
    np.testing.assert_allclose(moved.transform(far), encoder.transform(near), atol=0.01)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((5, 2, 2)), r"has shape \(5, 2, 2\); expected \(n_steps, n_channels\), or"),
        (np.zeros((0, 3)), r"has shape \(0, 3\); expected at least one value. Assign NA"),
        (np.full((2, 3), np.nan), "contains NaN or infinity; expected finite values"),
    ],
)
def test_wrong_sequences_are_refused(cell, message):
    fitted = make().fit(sequences(), classes())
    for refuse in (make().fit, lambda X, y: fitted.transform(X)):
        with pytest.raises(ValueError, match=f"SequenceEncoder: sequence in row 0 {message}"):
            refuse([cell] * N_ROWS, classes())


def test_other_channels_are_refused(tmp_path):
    fitted = make().fit(sequences(), classes())
    two = [cell[:, :2] for cell in sequences()]
    with pytest.raises(ValueError, match="row 0 has 2 channels; expected 3, as in most"):
        fitted.transform(two)
    names = [str(tmp_path / f"{i}.npy") for i in range(N_ROWS)]
    for name, cell in zip(names, [two[0], *sequences()[1:]], strict=True):
        np.save(name, cell)
    with pytest.raises(ValueError, match=r"row 0 has 2 channels; expected 3.*file is '.*0.npy'"):
        make().fit(names, classes())
