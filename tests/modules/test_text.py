"""The text networks: empty texts, the unknown bucket, recurrent layers against loops over words."""

import pytest
import torch

from sklearn_mmfusion.modules.layers import pad
from sklearn_mmfusion.modules.text import WordEmbedding
from tests.modules._networks import make_batch, make_network, rows_of
from tests.modules.test_audio import run_lstm
from tests.modules.test_recurrent import run_gru

EVERY = pytest.mark.parametrize("kind", ["text", "text_gru", "text_lstm"])


@EVERY
def test_empty_texts_are_finite_and_all_alike(kind):
    network = make_network(kind).eval()
    out = network(**make_batch(kind, (3, 0, 5, 0)))
    assert out.isfinite().all()
    torch.testing.assert_close(out[1], out[3])
    nothing = network(**make_batch(kind, (0, 0)))
    torch.testing.assert_close(nothing, out[[1, 3]])


@EVERY
def test_training_on_empty_texts_leaves_finite_gradients_and_statistics(kind):
    network = make_network(kind).train()
    network(**make_batch(kind, (0, 0, 0))).sum().backward()
    network(**make_batch(kind, (0, 4, 2))).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert all(v.isfinite().all() for v in network.state_dict().values())


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("n_frozen", [0, 3])
def test_frozen_and_trained_words_are_rows_of_one_table(n_frozen, fixed):
    torch.manual_seed(0)
    words, vectors = WordEmbedding(7, 4, n_frozen), torch.randn(3, 4)
    before = words.weight.detach().clone()
    words.set_vectors(vectors)
    table = torch.cat([before[:4], vectors])
    ids, lengths = torch.tensor([6, 0, 2, 4, 6, 3]), torch.tensor([4, 0, 2])
    torch.testing.assert_close(words.each(ids), table[ids])
    means = torch.stack([table[[6, 0, 2, 4]].mean(0), torch.zeros(4), table[[6, 3]].mean(0)])
    mean = words.mean(*pad(ids, lengths)) if fixed else words.mean(ids, lengths)
    torch.testing.assert_close(mean, means)
    mean.sum().backward()
    touched = [0, 2, 3] if n_frozen else [0, 2, 3, 4, 6]
    assert words.weight.grad.any(1).nonzero()[:, 0].tolist() == touched
    assert len(list(words.parameters())) == 1 and len(words.state_dict()) == 1 + bool(n_frozen)


@pytest.mark.parametrize(("cell", "run"), [("gru", run_gru), ("lstm", run_lstm)])
@pytest.mark.parametrize("fixed", [False, True])
def test_recurrent_network_equals_a_loop_over_words(cell, run, fixed):
    network, batch = make_network(f"text_{cell}").eval(), make_batch(f"text_{cell}", (5, 0, 3, 1))
    rnn, pooled = network.recurrent.rnn, []
    for ids in batch["words"].split(batch["words_lengths"].tolist()):
        words = network.words.weight[ids]
        if len(words):
            backward = run(rnn, words.flip(0), "_reverse").flip(0)
            states = torch.cat([run(rnn, words, ""), backward], 1)
            pooled.append(torch.cat([states.mean(0), states.amax(0)]))
        else:
            pooled.append(words.new_zeros(16))
    if fixed:
        padded, mask = pad(batch["words"], batch["words_lengths"])
        batch = {"words": padded, "words_lengths": mask}
    embedded, states, valid = network.tokens(**batch)
    torch.testing.assert_close(embedded, network.embedding(torch.stack(pooled)))
    assert not states[~valid].any()


@EVERY
def test_token_dropout_makes_tokens_unknown_in_training_only(kind):
    network, batch = make_network(kind), make_batch(kind)
    network.token_dropout = 1.0
    names = {"words", "ngrams", "chars"} & set(batch)
    unknown = batch | {name: 0 * batch[name] for name in names}
    torch.testing.assert_close(network.train()(**batch), network(**unknown))
    network.eval()
    assert not torch.allclose(network(**batch), network(**unknown))
    network.token_dropout = 0.0
    torch.testing.assert_close(network(**rows_of(batch, [2])), network(**batch)[2:3])
