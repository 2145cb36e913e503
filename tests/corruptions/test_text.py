"""Corruptions of texts and of token ids."""

from difflib import SequenceMatcher

import numpy as np
import pytest
import torch

from sklearn_mmfusion.corruptions import text

WORDS = [f"w{i}" for i in range(400)]


def test_drop_leaves_the_others_in_order():
    kept = text.drop(" ".join(WORDS), np.random.default_rng(0), 0.3).split()
    assert kept == [word for word in WORDS if word in set(kept)]
    assert len(kept) / 400 == pytest.approx(0.7, abs=0.06)
    assert text.drop("one two", np.random.default_rng(0), 1.0) in {"one", "two"}


def test_swap_moves_neighbours():
    moved = text.swap(" ".join(WORDS), np.random.default_rng(0), 0.1).split()
    assert sorted(moved) == sorted(WORDS) and moved != WORDS
    shares = np.mean(np.array(moved) != np.array(WORDS))
    assert shares == pytest.approx(0.19, abs=0.06)


def test_typo_changes_a_share_of_the_characters():
    given = "".join(np.random.default_rng(1).choice(list("abcdefghijklmnopqrstuvw xyz"), 900))
    typed = text.typo(given, np.random.default_rng(0), 0.05)
    ratio = SequenceMatcher(None, given, typed, autojunk=False).ratio()
    assert 0.93 < ratio < 0.98
    assert set(typed) <= set(given)
    assert text.typo("漢字かな" * 20, np.random.default_rng(0), 0.3) != "漢字かな" * 20


@pytest.mark.parametrize("function", [text.drop, text.swap, text.typo])
@pytest.mark.parametrize("given", ["", " ", "a", "a b"])
def test_short_texts_stay_texts(function, given):
    for seed in range(20):
        changed = function(given, np.random.default_rng(seed), 1.0)
        assert bool(changed) == bool(given) and set(changed) <= set(given)


def test_drop_tokens_makes_ids_unknown():
    ids = torch.arange(1, 2001).view(2, 1000)
    changed = text.drop_tokens(ids, torch.Generator().manual_seed(0), 0.2)
    assert ((changed == ids) | (changed == 0)).all()
    assert (changed == 0).double().mean() == pytest.approx(0.2, abs=0.03)
