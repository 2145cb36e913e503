"""PointCloudEncoder: order, forms of input, what is refused."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_mmfusion import PointCloudEncoder, make_multimodal_classification
from sklearn_mmfusion.containers import TensorArray
from tests._registry import MODALITIES, N_ROWS, classes, clouds

make = MODALITIES["point_cloud"].make


def test_features_tell_classes_apart():
    X, y = make_multimodal_classification(
        300, modalities=["point_cloud"], noise=0.5, random_state=0
    )
    cells = X["point_cloud"].array
    encoder = PointCloudEncoder(16, max_epochs=10, random_state=0).fit(cells[:200], y[:200])
    head = LogisticRegression().fit(encoder.transform(cells[:200]), y[:200])
    assert head.score(encoder.transform(cells[200:]), y[200:]) > 0.7


def test_order_of_points_does_not_matter():
    encoder = make().fit(clouds(), classes())
    rng = np.random.default_rng(1)
    shuffled = [rng.permutation(cloud) for cloud in clouds()]
    expected = encoder.transform(clouds())
    np.testing.assert_allclose(encoder.transform(shuffled), expected, rtol=1e-5, atol=1e-6)
    mirrored = [cloud[:, ::-1] for cloud in clouds()]
    assert not np.allclose(encoder.transform(mirrored), expected, atol=1e-3)


def test_scale_is_that_of_all_points():
    encoder = make().fit(clouds(), classes())
    points = np.concatenate(clouds())
    np.testing.assert_allclose(encoder.mean_, points.mean(0), atol=1e-6)
    np.testing.assert_allclose(encoder.scale_, points.std(0), rtol=1e-5)


@pytest.mark.parametrize("as_files", [False, True])
def test_clouds_far_from_zero_keep_their_digits(as_files, tmp_path):
    near = [np.round(cloud.astype(float) * 2**10) / 2**20 for cloud in clouds()]
    far = [cloud + [2.0**23, 0, -(2.0**19)] for cloud in near]  # exact in float64
    encoder = make().fit(near, classes())
    cells = far
    if as_files:
        cells = [str(tmp_path / f"{row}.npy") for row in range(N_ROWS)]
        for path, cloud in zip(cells, far, strict=True):
            np.save(path, cloud)
    moved = make().fit(cells, classes())
    np.testing.assert_allclose(moved.transform(cells), encoder.transform(near), atol=0.01)
    prepared, points = moved.prepare(cells).sources["points"].values, np.concatenate(near)
    expected = (points - points.mean(0)) / points.std(0)
    np.testing.assert_allclose(prepared[:, [0, 2]], expected[:, [0, 2]], atol=1e-5)
    np.testing.assert_array_equal(moved.mean_[[0, 2]], 0)
    np.testing.assert_array_equal(moved.mean_[1], encoder.mean_[1])
    with pytest.raises(ValueError, match="in row 1 is far beyond the training rows"):
        moved.transform([far[0], np.full((4, 3), 1e38)])


def test_flat_rows_hold_one_point_after_another():
    cells = np.stack([cloud[:4] for cloud in clouds()])
    expected = make().fit(cells, classes()).transform(cells)
    flat = cells.reshape(N_ROWS, -1)
    np.testing.assert_allclose(make().fit(flat, classes()).transform(flat), expected, atol=1e-6)
    cells[:, -1, 1:] = 0
    completed = make().fit(cells, classes()).transform(cells)
    shorter = flat[:, :-2]
    got = make().fit(shorter, classes()).transform(shorter)
    np.testing.assert_allclose(got, completed, atol=1e-6)


def test_files_equal_arrays(tmp_path):
    names = [f"{i}.npy" for i in range(N_ROWS)]
    for name, cloud in zip(names, clouds(), strict=True):
        np.save(tmp_path / name, cloud)
    encoder = make(file_params={"root": str(tmp_path)}).fit(names, classes())
    expected = make().fit(clouds(), classes()).transform(clouds())
    np.testing.assert_array_equal(encoder.transform(names), expected)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((5, 2)), r"row 3 has shape \(5, 2\); expected \(n_points, 3\)"),
        (np.zeros((0, 3)), r"row 3 has shape \(0, 3\); expected at least one coordinate. Assign"),
        (np.full((2, 3), np.inf), "row 3 contains NaN or infinity; expected finite coordinates"),
    ],
)
def test_wrong_clouds_are_refused(cell, message):
    cells = clouds()
    fitted = make().fit(cells, classes())
    cells[3] = cell
    cells[1] = None  # rows are counted in X, not among the present ones
    for refuse in (make().fit, lambda X, y: fitted.transform(X)):
        with pytest.raises(ValueError, match=f"PointCloudEncoder: point cloud in {message}"):
            refuse(TensorArray(cells), classes())


def test_cells_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"in row 0 has shape \(2, 2, 3\); expected \(n_points"):
        make().fit(np.zeros((4, 2, 2, 3)), [0, 1, 0, 1])


def test_a_custom_network_gets_points():
    class First(nn.Module):
        def __init__(self, in_features, out_features):
            super().__init__()
            self.out_features = out_features
            self.layer = nn.Linear(in_features, out_features)

        def set_scale(self, mean, std):
            self.mean, self.std = mean, std

        def forward(self, points, points_lengths):
            first = points[points_lengths.cumsum(0) - points_lengths]
            return self.layer((first - self.mean) / self.std)

    encoder = make(module=First).fit(clouds(), classes())
    layer = encoder.module_.encoder.layer
    first = np.stack([cloud[0] for cloud in clouds()])
    first = (first - encoder.mean_) / encoder.scale_
    by_hand = first @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(encoder.transform(clouds()), by_hand, rtol=1e-4, atol=1e-5)
