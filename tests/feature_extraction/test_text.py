"""TextEncoder: what counts as the same text, and what n-grams it knows."""

import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_mmfusion._caching import key_of
from sklearn_mmfusion.feature_extraction import TextEncoder
from tests._registry import SMALL_TEXT, classes, texts

TINY = {
    "n_components": 4,
    "embedding_dim": 4,
    "max_epochs": 2,
    "random_state": 0,
    "module_params": {"channels": 4},
}


def make_texts(n=60, seed=0):
    """Words of no meaning around one that tells the class."""
    rng = np.random.default_rng(seed)
    noise = ["the", "of", "and", "in", "with", "from", "über", "猫"]
    signal = [["red", "crimson", "scarlet"], ["blue", "azure", "navy"]]
    y = np.arange(n) % 2
    texts = []
    for label in y:
        words = [*rng.choice(noise, rng.integers(1, 6)), rng.choice(signal[label])]
        texts.append(" ".join(rng.permutation(words)))
    return texts, y


def features(X, y=None, **params):
    y = np.arange(len(X)) % 2 if y is None else y
    return TextEncoder(**TINY | params).fit_transform(X, y)


def test_features_tell_classes_apart():
    texts, y = make_texts(300)
    encoder = TextEncoder(n_components=8, embedding_dim=8, max_epochs=10, random_state=0)
    encoder.fit(texts[:200], y[:200])
    head = LogisticRegression().fit(encoder.transform(texts[:200]), y[:200])
    assert head.score(encoder.transform(texts[200:]), y[200:]) > 0.95
    # a word never seen whole is known by its pieces
    assert head.predict(encoder.transform(["scarlette", "navyblue"])).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gru", "lstm"])
def test_order_of_words_is_learned_where_bags_are_at_chance(architecture):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    pairs = [["first", "second"], ["second", "first"]]
    orders = [" x ".join([*pairs[label], *["noise"] * rng.integers(0, 3)]) for label in y]
    encoder = TextEncoder(8, architecture=architecture, max_epochs=15, lr=0.01, random_state=0)
    encoder.fit(orders[:80], y[:80])
    assert list(encoder.tokenizers_) == ["words"]
    assert (encoder.predict_head(orders[80:]).argmax(1) == y[80:]).mean() > 0.95
    assert np.isfinite(encoder.transform(["", "unseen words"])).all()


def test_recurrent_networks_read_single_words():
    with pytest.raises(
        ValueError, match=r"word_ngram_range=\(1, 2\), but architecture='gru' reads"
    ):
        TextEncoder(**TINY, architecture="gru", word_ngram_range=(1, 2)).fit(*make_texts())


def test_texts_are_the_same_in_any_container():
    texts, _ = make_texts()
    expected = features(texts)
    assert expected.shape == (60, 4)
    assert expected.dtype == np.float32
    same = {
        "array": np.array(texts),
        "objects": np.array(texts, dtype=object),
        "series": pd.Series(texts, index=np.arange(60) + 7),
        "object series": pd.Series(texts, dtype=object),
        "frame": pd.DataFrame({"text": texts}),
        "category": pd.Series(texts, dtype="string"),
    }
    for name, X in same.items():
        np.testing.assert_array_equal(features(X), expected, err_msg=name)


def test_case_and_unicode_form_do_not_matter():
    texts, y = make_texts()
    encoder = TextEncoder(**TINY).fit(texts, y)
    expected = encoder.transform(["über red", "straße"])
    np.testing.assert_array_equal(encoder.transform(["U\u0308BER ＲＥＤ", "STRASSE"]), expected)
    cased = TextEncoder(**TINY, lowercase=False).fit([*texts, "RED"], [*y, 0])
    assert not np.allclose(*cased.transform(["red", "RED"]))


def test_vocabularies_follow_the_parameters():
    texts, y = make_texts()
    encoder = TextEncoder(**TINY, word_ngram_range=(1, 2), char_ngram_range=(2, 3), min_df=3)
    tokenizers = encoder.fit(texts, y).tokenizers_
    assert {len(w.split()) for w in tokenizers["words"].vocabulary_} == {1, 2}
    assert {len(g) for g in tokenizers["ngrams"].vocabulary_} == {2, 3}
    assert {len(c) for c in tokenizers["chars"].vocabulary_} == {1}
    assert "crimson" in tokenizers["words"].vocabulary_
    small = TextEncoder(**TINY, max_features=5).fit(texts, y).tokenizers_
    assert [t.n_tokens_ for t in small.values()] == [6, 6, 6]


def test_empty_and_unknown_texts_have_features():
    texts, y = make_texts()
    encoder = TextEncoder(**TINY).fit([*texts, "", "…"], [*y, 0, 1])
    out = encoder.transform(["", "…", "жук", "zzz"])
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[0], out[1], atol=1e-6)


def test_many_empty_texts_train():
    texts, y = make_texts(80)
    texts[10:60] = [""] * 50
    assert np.isfinite(features(texts, y)).all()


def test_absent_texts_take_no_part():
    texts, y = make_texts()
    column = pd.Series(texts)
    column[::5] = None
    absent = column.isna().to_numpy()
    out = features(column, y)
    assert np.isnan(out[absent]).all()
    kept = [t for t, gone in zip(texts, absent, strict=True) if not gone]
    np.testing.assert_array_equal(out[~absent], features(kept, y[~absent]))


def test_a_text_alone_has_the_features_it_has_among_others():
    texts, y = make_texts()
    encoder = TextEncoder(**TINY).fit(texts, y)
    together = encoder.transform([*texts, "a very long text " * 20])
    for row in range(0, 60, 7):
        np.testing.assert_allclose(encoder.transform([texts[row]])[0], together[row], atol=1e-5)


def test_rows_of_numbers_are_texts_of_words():
    X = np.random.default_rng(0).integers(0, 4, size=(60, 3)).astype(float)
    encoder = TextEncoder(**TINY).fit(X, X[:, 0] > 1)
    assert len(encoder.tokenizers_["words"].vocabulary_) == 4
    assert encoder.n_features_in_ == 3
    assert encoder.transform(X).shape == (60, 4)


@pytest.mark.parametrize(
    "y",
    [
        np.array(["cat", "dog"] * 30),
        np.arange(60) % 3,
        np.eye(3, dtype=int)[np.arange(60) % 3] | np.eye(3, dtype=int)[np.arange(60) % 2],
        np.linspace(0, 1, 60) ** 2,
        np.random.default_rng(0).normal(size=(60, 2)),
    ],
    ids=["binary", "multiclass", "multilabel", "continuous", "multioutput"],
)
def test_targets_of_every_type_train(y):
    out = features(make_texts()[0], y)
    assert out.shape == (60, 4)
    assert np.isfinite(out).all()


def test_an_own_network_gets_sizes_and_bags():
    class Bag(nn.Module):
        def __init__(self, n_words, n_ngrams, n_chars, out_features):
            super().__init__()
            self.out_features = out_features
            self.words = nn.EmbeddingBag(n_words, out_features, mode="sum")

        def forward(self, words, words_lengths, **others):
            assert set(others) == {"ngrams", "ngrams_lengths", "chars", "chars_lengths"}
            return self.words(words, words_lengths.cumsum(0) - words_lengths)

    texts, y = make_texts()
    params = {**TINY, "module": Bag, "module_params": None}
    encoder = TextEncoder(**params).fit(texts, y)
    table = encoder.module_.encoder.words.weight.detach().numpy()
    ids = [encoder.tokenizers_["words"].encode(t) for t in texts]
    by_hand = np.stack([table[i].sum(0) for i in ids])
    np.testing.assert_allclose(encoder.transform(texts), by_hand, atol=1e-5)


def test_tokenizers_of_a_text_encoder_serve_alone():
    texts, _ = make_texts()
    encoder = TextEncoder(char_ngram_range=(1, 2))
    sources = encoder.fit_prepare(texts).sources
    for name, tokenizer in encoder.tokenizers_.items():
        assert clone(tokenizer).fit(texts).vocabulary_ == tokenizer.vocabulary_
        ids = tokenizer.transform(texts)
        np.testing.assert_array_equal(np.concatenate(list(ids)), sources[name].values)
        np.testing.assert_array_equal(ids.cell_lengths(), sources[name].sizes)


def test_text_encoder_refuses_images():
    with pytest.raises(TypeError, match="cells of type tensor.*expected texts"):
        TextEncoder(max_epochs=1).fit(np.zeros((4, 3, 3), np.uint8), [0, 1, 0, 1])


def test_new_texts_are_lowercased_as_in_fit():
    encoder = TextEncoder(**SMALL_TEXT).fit(texts(), classes())
    upper = [text.upper() for text in texts()]
    expected = encoder.transform(upper)
    np.testing.assert_array_equal(encoder.set_params(lowercase=False).transform(upper), expected)


def test_long_texts_are_cut_with_one_warning():
    texts, y = make_texts()
    texts = [text.replace("猫", "neko") for text in texts]  # as they are after cleaning
    longer = [len(text) for text in texts if len(text) > 15]
    by_hand = [text[:15].rstrip() for text in texts]
    message = (
        rf"TextEncoder: {len(longer)} of 60 texts have more than max_length=15 characters, the "
        rf"longest one {max(longer)}; .*Raise max_length"
    )
    encoder = TextEncoder(**TINY, max_length=15)
    with pytest.warns(UserWarning, match=message) as caught:
        encoder.fit(texts, y)
    assert len(caught) == 1
    expected = features(by_hand, y)
    with pytest.warns(UserWarning, match=message) as caught:
        np.testing.assert_array_equal(encoder.transform(texts), expected)
    assert len(caught) == 1
    np.testing.assert_array_equal(encoder.transform(by_hand), expected)  # without a warning


def test_very_long_training_texts_give_a_warning(monkeypatch):
    monkeypatch.setattr("sklearn_mmfusion.feature_extraction.text.LONG_TEXT", 40)
    texts = ["a few words", "one more", "x" * 41, "the last"] * 3
    match = "longest of 12 texts has 41 characters.* GB of memory.* Set max_length"
    with pytest.warns(UserWarning, match=match):
        TextEncoder(n_components=2, max_epochs=1, random_state=0).fit(texts, [0, 1] * 6)


# ------------------------------------------------------------------------------ word vectors


VECTORS = {
    "red": [1.0, 0, 0],
    "crimson": [0.9, 0.1, 0],
    "Scarlet": [1.0, 0.1, 0],
    "blue": [0, 1.0, 0],
    "azure": [0, 0.9, 0.1],
    "navy": [0.1, 1.0, 0],
    "ruby": [1.0, 0, 0.1],
    "cobalt": [0, 1.0, 0.1],
    "two words": [5.0, 5, 5],
}


def write_vectors(path, vectors=VECTORS, header=True, open=open):
    lines = [f"{len(vectors)} 3"] * header
    lines += [" ".join([word, *map(str, values)]) for word, values in vectors.items()]
    with open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("architecture", ["cnn", "gru"])
def test_frozen_vectors_stay_and_serve_unseen_words(architecture):
    texts, y = make_texts()
    params = {**TINY, "module_params": None, "architecture": architecture}
    encoder = TextEncoder(**params, embeddings=VECTORS).fit(texts, y)
    words = encoder.tokenizers_["words"].vocabulary_
    table, n_trained = encoder.module_.encoder.words, len(words) + 1 - 8
    for word, vector in VECTORS.items():
        if word != "two words":
            row = words[word.lower()] - n_trained
            np.testing.assert_array_equal(table.frozen[row].cpu(), np.float32(vector))
    assert encoder.n_words_found_ == 6 and len(table.weight) == n_trained
    assert encoder.vectors_.shape == (8, 3) and "the" in words
    seen, unseen = encoder.transform(["ruby", "cobalt"])
    assert architecture == "cnn" or not np.array_equal(seen, unseen)
    again = pickle.loads(pickle.dumps(encoder)).transform(texts)
    np.testing.assert_array_equal(again, encoder.transform(texts))


def test_trained_vectors_start_from_the_given_ones():
    texts, y = make_texts()
    encoder = TextEncoder(**TINY, embeddings=VECTORS, freeze_embeddings=False)
    encoder.fit_prepare(texts)
    words = encoder.tokenizers_["words"].vocabulary_
    table = encoder.build_module().words
    assert table.frozen is None and "ruby" not in words and list(words)[-1] == "navy"
    assert table.weight[words["scarlet"]].tolist() == pytest.approx([1.0, 0.1, 0.0])
    trained = encoder.fit(texts, y).module_.encoder.words.weight[words["scarlet"]].tolist()
    assert 0 < np.abs(np.subtract(trained, [1.0, 0.1, 0.0])).max() < 0.5
    assert not hasattr(encoder.set_params(embeddings=None).fit(texts, y), "vectors_")


def test_files_of_vectors_equal_mappings(tmp_path):
    texts, _ = make_texts()
    expected = TextEncoder(**TINY, embeddings=VECTORS)
    expected.fit_prepare(texts)
    paths = [
        write_vectors(tmp_path / "header.txt"),
        write_vectors(tmp_path / "plain.txt", header=False),
        write_vectors(tmp_path / "zipped.vec", open=gzip.open),
    ]
    for path in [*paths, tmp_path / "plain.txt"]:
        encoder = TextEncoder(**TINY, embeddings=path)
        encoder.fit_prepare(texts)
        np.testing.assert_array_equal(encoder.vectors_, expected.vectors_)
        words = [each.tokenizers_["words"].vocabulary_ for each in (encoder, expected)]
        assert words[0] == words[1]
    few = TextEncoder(**TINY, embeddings=paths[0], max_features=15)  # the texts have 14 words
    few.fit_prepare(texts)
    vocabulary = few.tokenizers_["words"].vocabulary_
    assert len(vocabulary) == 15 and "ruby" in vocabulary and "cobalt" not in vocabulary


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "holds no vectors"),
        ("red 1 2 3\nblue 1 2\n", "row 2 of .* has 2 values; expected 3"),
        ("1 3\nred 1 2 3 4\n", "row 2 of .* has 4 values; expected 3"),
        ("red\n", "row 1 of .* has 0 values; expected at least one"),
        ("the 1 2\nred 1 x\n", "row 2 of .* has values that are no numbers: .*'x'"),
        ("red 1 nan\n", "row 1 of .* has NaN or infinite values"),
        ("3 2\nred 1 2\n", "has 1 rows after its first one, which states 3"),
    ],
)
def test_broken_files_of_vectors_are_errors(tmp_path, content, match):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"TextEncoder: embeddings: .*{match}"):
        TextEncoder(**TINY, embeddings=path).fit(*make_texts())


def test_unreadable_files_and_odd_mappings_are_errors(tmp_path):
    texts, y = make_texts()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"red 1 2\n" * 99)[:20])
    for embeddings, error, match in [
        (str(tmp_path / "absent.txt"), FileNotFoundError, "cannot read the file .*absent.txt"),
        (str(tmp_path / "cut.gz"), ValueError, "cannot read the file .*cut.gz"),
        ({}, ValueError, "a dict holds no vectors"),
        ({"red": []}, ValueError, r"\['red'\] has 0 values; expected at least one"),
        ({"red": [1, 2], "blue": [1]}, ValueError, r"\['blue'\] has 1 values; expected 2"),
        ({"red": [[1, 2]]}, ValueError, r"\['red'\] has shape \(1, 2\); expected one vector"),
        ({1: [1, 2]}, TypeError, "has the key 1; expected words"),
    ]:
        with pytest.raises(error, match=f"embeddings.*{match}"):
            TextEncoder(**TINY, embeddings=embeddings).fit(texts, y)


def test_vectors_of_no_word_of_the_texts_give_a_warning():
    match = r"embeddings has none of the \d+ words of the training texts \(such as \['"
    with pytest.warns(UserWarning, match=match):
        encoder = TextEncoder(**TINY, embeddings={"rouge": [1.0, 2.0]}).fit(*make_texts())
    assert encoder.n_words_found_ == 0


def test_a_changed_file_of_vectors_has_another_key(tmp_path):
    path = write_vectors(tmp_path / "vectors.txt")
    encoder = TextEncoder(**TINY, embeddings=path)
    key = key_of(encoder)
    assert key_of(clone(encoder)) == key
    write_vectors(path, VECTORS | {"green": [0, 0, 1.0]})
    assert key_of(encoder) != key
