"""Streams: predictions at each event equal those of rows built by hand."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mmfusion import (
    JointFusionClassifier,
    LateFusionClassifier,
    LateFusionRegressor,
    multimodal_frame,
)
from tests._registry import SMALL_JOINT, classes, encoders, modalities, numbers

N = 60
Y = np.arange(N) % 2
COLUMNS = ["heart", "skin"]


def vectors():
    rng = np.random.default_rng(0)
    return multimodal_frame(
        heart=rng.normal(size=(N, 3)) + Y[:, None], skin=rng.normal(size=(N, 2)) - Y[:, None]
    )


def late():
    head = make_pipeline(StandardScaler(), LogisticRegression())
    return LateFusionClassifier([(name, head, name) for name in COLUMNS]).fit(vectors(), Y)


MODEL = late()


def rows_by_hand(events, window):
    """Time and newest cells at each event, by a search through all events so far."""
    for i in range(len(events)):
        now = max(time for time, _, _ in events[: i + 1])
        cells = {}
        for name in COLUMNS:
            own = [(time, k) for k, (time, m, _) in enumerate(events[: i + 1]) if m == name]
            if own and now - max(own)[0] <= window and events[max(own)[1]][2] is not None:
                cells[name] = events[max(own)[1]][2]
        yield now, cells


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(COLUMNS), st.integers(-1, 5)), min_size=1
    ),
    st.integers(1, 8),
)
@pytest.mark.filterwarnings("ignore:.*no modality present")
def test_predictions_are_those_of_rows_by_hand(drawn, window):
    rng = np.random.default_rng(0)
    width = {"heart": 3, "skin": 2}
    events = [
        (float(t), name, None if level < 0 else rng.normal(level - 2, 1, width[name]))
        for t, name, level in drawn
    ]
    found = list(MODEL.predict_stream(events, window=window))
    assert len(found) == len(events)
    for (now, y, names), (expected_now, cells) in zip(
        found, rows_by_hand(events, window), strict=True
    ):
        row = {name: [cells.get(name)] for name in COLUMNS}
        assert now == expected_now and names == tuple(n for n in COLUMNS if n in cells)
        assert y == MODEL.predict(multimodal_frame(**row))[0]


def test_a_joint_model_predicts_as_for_a_frame():
    X = modalities()
    model = JointFusionClassifier(encoders(), **SMALL_JOINT).fit(X, classes())
    cells = X.iloc[10].to_dict()
    start = datetime(2026, 1, 1)
    events = [
        (start + timedelta(seconds=i), name, cell) for i, (name, cell) in enumerate(cells.items())
    ]
    found = list(model.predict_stream(events, window=1.5))
    for i, (time, y, names) in enumerate(found):
        kept = list(cells)[max(0, i - 1) : i + 1]
        row = X.iloc[[10]].copy()
        row[[n for n in cells if n not in kept]] = None
        assert time == events[i][0] and names == tuple(kept)
        assert y == model.predict(row)[0]


def test_a_table_arrives_as_a_dict():
    X = vectors().assign(age=np.arange(N) % 7.0, height=np.linspace(0, 1, N))
    triples = [("heart", Ridge(), "heart"), ("table", Ridge(), ["age", "height"])]
    model = LateFusionRegressor(triples, fusion="mean").fit(X, X["age"] + X["height"])
    events = [(0, "heart", X["heart"][3]), (1, "table", {"age": 2.0, "height": 0.5})]
    *_, (time, y, names) = model.predict_stream(events, window=10)
    row = X.iloc[[3]].assign(age=2.0, height=0.5)
    assert names == ("heart", "table") and time == 1
    np.testing.assert_allclose(y, model.predict(row)[0])
    with pytest.raises(ValueError, match=r"event 0, modality 'table', has \['age'\]; expected a d"):
        next(model.predict_stream([(0, "table", {"age": 1.0})], window=1))


def test_events_are_read_one_at_a_time():
    def endless():
        time = 0
        while True:
            yield time, "skin", [1.0, 2.0]
            time += 1

    stream = MODEL.predict_stream(endless(), window=1)
    assert [next(stream)[0] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ("skin", TypeError, r"event 1 is 'skin'; expected \(time, modality, cell\)"),
        ((1, "skim", [1, 2]), ValueError, r"'skim'; expected one of .* Did you mean 'skin'\?"),
        ((np.nan, "skin", [1, 2]), ValueError, "event 1 has the time nan; expected a known"),
        ((np.inf, "skin", [1, 2]), ValueError, "event 1 has the time inf; expected a known"),
        (("10:00", "skin", [1, 2]), TypeError, "has the time '10:00'; expected seconds or a dat"),
        ((pd.NaT, "skin", [1, 2]), ValueError, "event 1 has the time NaT; expected a known"),
        (([], "skin", [1, 2]), TypeError, r"has the time \[\]; expected seconds or a datetime"),
        ((datetime(2026, 1, 1), "skin", [1, 2]), TypeError, "expected times of one kind"),
    ],
)
def test_wrong_events_are_refused(event, error, message):
    stream = MODEL.predict_stream([(0, "heart", [1, 2, 3]), event], window=1)
    next(stream)
    with pytest.raises(error, match=f"LateFusionClassifier: .*{message}"):
        next(stream)


def test_modalities_share_no_column(tmp_path):
    triples = [(name, LogisticRegression(), "heart") for name in "ab"]
    model = LateFusionClassifier(triples).fit(vectors(), Y)
    with pytest.raises(ValueError, match="column 'heart' belongs to the modalities 'a' and 'b'"):
        model.predict_stream([], window=1)


def test_a_stream_is_not_stored(tmp_path):
    triples = [(name, LogisticRegression(), name) for name in COLUMNS]
    model = LateFusionClassifier(triples, memory=tmp_path, random_state=0).fit(vectors(), Y)
    before = sorted(tmp_path.rglob("*"))
    assert before
    list(model.predict_stream([(0, "heart", [1.0, 2.0, 3.0])], window=1))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("window", [0, -1.0, np.nan, "5s", True])
def test_windows_are_seconds(window):
    with pytest.raises(ValueError, match=f"window={window!r}; expected a number of seconds above"):
        MODEL.predict_stream([], window=window)


def test_nothing_present_gives_the_prior():
    model = LateFusionRegressor([("heart", Ridge(), "heart")]).fit(vectors(), numbers(N))
    with pytest.warns(UserWarning, match="no modality present"):
        ((_, y, names),) = model.predict_stream([(0, "heart", None)], window=1)
    assert names == ()
    np.testing.assert_allclose(y, numbers(N).mean())
