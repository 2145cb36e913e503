"""The text network: empty texts and the unknown bucket."""

import torch

from tests.modules._networks import make_batch, make_network, rows_of


def test_empty_texts_are_finite_and_all_alike():
    network = make_network("text").eval()
    out = network(**make_batch("text", (3, 0, 5, 0)))
    assert out.isfinite().all()
    torch.testing.assert_close(out[1], out[3])
    nothing = network(**make_batch("text", (0, 0)))
    torch.testing.assert_close(nothing, out[[1, 3]])


def test_training_on_empty_texts_leaves_finite_gradients_and_statistics():
    network = make_network("text").train()
    network(**make_batch("text", (0, 0, 0))).sum().backward()
    network(**make_batch("text", (0, 4, 2))).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert all(v.isfinite().all() for v in network.state_dict().values())


def test_token_dropout_makes_tokens_unknown_in_training_only():
    network, batch = make_network("text"), make_batch("text")
    network.token_dropout = 1.0
    unknown = batch | {name: 0 * batch[name] for name in ("words", "ngrams", "chars")}
    torch.testing.assert_close(network.train()(**batch), network(**unknown))
    network.eval()
    assert not torch.allclose(network(**batch), network(**unknown))
    network.token_dropout = 0.0
    torch.testing.assert_close(network(**rows_of(batch, [2])), network(**batch)[2:3])
