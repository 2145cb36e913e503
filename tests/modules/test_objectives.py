"""Objectives against sums by hand; joint networks in training, whose rows lack modalities."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_mmfusion.modules.fusion import (
    AttentionFusion,
    ConcatFusion,
    GatedFusion,
    LogitFusion,
    Projections,
)
from sklearn_mmfusion.modules.fusion_network import FusionNetwork, token_width
from sklearn_mmfusion.modules.objectives import (
    Adversarial,
    Contrastive,
    JointLoss,
)
from sklearn_mmfusion.modules.perceptron import FeatureNetwork
from tests.modules._networks import make_batch, make_network, pad_networks_more, rows_of

ENCODERS = ["image", "audio_cnn", "text"]
LENGTHS = (5, 2, 9, 1, 4)
H, N_OUTPUTS = 4, 3
EVERY_MASK = torch.tensor(list(itertools.product([True, False], repeat=3)))


def normal(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def as_mask(*columns):
    """The mask whose columns are given as strings of 0 and 1."""
    return torch.tensor([[c == "1" for c in column] for column in columns]).T


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------- objectives


def log_softmax(scores):
    top = scores.max(axis=1, keepdims=True)
    return scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))


def contrastive_by_hand(aligned, mask, scale):
    units = aligned / np.linalg.norm(aligned, axis=2, keepdims=True)
    pairs = list(itertools.combinations(range(mask.shape[1]), 2))
    loss = np.zeros(len(mask))
    for i, j in pairs:
        rows = np.flatnonzero(mask[:, i] & mask[:, j])
        if len(rows) > 1:
            scores = scale * units[rows, i] @ units[rows, j].T
            both = np.diag(log_softmax(scores)) + np.diag(log_softmax(scores.T))
            loss[rows] -= both / 2 / len(pairs)
    return loss


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=7),
    st.sampled_from([(2.0, math.exp(2)), (9.0, 100.0), (-3.0, 1.0), (None, 1 / 0.07)]),
)
def test_contrastive_equals_symmetric_cross_entropy_of_the_pairs_present(mask, temperature):
    log_scale, scale = temperature
    objective = Contrastive(H, 3).double()
    if log_scale is not None:
        objective.log_scale.data.fill_(log_scale)
    aligned, mask = normal(len(mask), 3, H), torch.tensor(mask)
    expected = contrastive_by_hand(aligned.numpy(), mask.numpy(), scale)
    # the temperature at the start is single precision
    close(objective(aligned, mask).detach().numpy(), expected, 1e-6 if log_scale is None else 1e-10)


@pytest.mark.parametrize(
    "mask", [as_mask("1100", "0011"), as_mask("1100", "0111"), as_mask("0", "1"), as_mask("1", "1")]
)
def test_contrastive_of_a_pair_without_two_common_rows_is_zero(mask):
    aligned = normal(len(mask), 2, H).requires_grad_()
    loss = Contrastive(H, 2).double()(aligned, mask)
    assert loss.tolist() == [0.0] * len(mask)


@pytest.mark.parametrize("objective", [Contrastive, Adversarial])
def test_absent_features_enter_no_objective(objective):
    module = objective(H, 3).double()
    aligned = torch.where(EVERY_MASK[..., None], normal(8, 3, H), 0.0).requires_grad_()
    loss = module(aligned, EVERY_MASK)
    other = torch.where(EVERY_MASK[..., None], aligned, 1e3)
    close(module(other, EVERY_MASK), loss)
    assert loss.isfinite().all()
    assert loss[-1] == 0  # nothing is present
    loss.sum().backward()
    assert not aligned.grad[~EVERY_MASK].any()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


def test_adversarial_turns_the_gradient_of_the_features_only():
    objective, mask = Adversarial(H, 3).double(), EVERY_MASK
    plain = copy.deepcopy(objective.discriminator)
    aligned, twin = (normal(8, 3, H).requires_grad_() for _ in range(2))
    expected = twin.new_zeros(8)
    for row, m in mask.nonzero().tolist():
        guess = torch.log_softmax(plain(twin[row, m]), 0)[m]
        share = torch.zeros(8, dtype=guess.dtype)
        share[row] = 1 / int(mask[row].sum())
        expected = expected - guess * share
    loss, weights = objective(aligned, mask), normal(8, seed=1)
    close(loss, expected)
    (loss * weights).sum().backward()
    (expected * weights).sum().backward()
    assert twin.grad[mask].any(1).all()
    close(aligned.grad, -twin.grad)
    for ours, other in zip(objective.parameters(), plain.parameters(), strict=True):
        close(ours.grad, other.grad)


@pytest.mark.parametrize("auxiliary", [0.0, 0.3])
@pytest.mark.parametrize("base", [nn.CrossEntropyLoss, nn.MSELoss])
def test_joint_loss_equals_the_sum_by_hand(base, auxiliary):
    output, penalty, mask = normal(8, N_OUTPUTS), normal(8, seed=1), EVERY_MASK
    heads = [normal(8, N_OUTPUTS, seed=2 + m) for m in range(3)]
    heads = [torch.where(mask[:, m, None], x, torch.nan) for m, x in enumerate(heads)]
    classes = torch.arange(8) % N_OUTPUTS
    target = classes if base is nn.CrossEntropyLoss else normal(8, N_OUTPUTS, seed=6)

    def row_loss(x, row):
        x = x[row].numpy()
        if base is nn.MSELoss:
            return ((x - target[row].numpy()) ** 2).mean()
        return -log_softmax(x[None])[0, classes[row]]

    loss = JointLoss(base, auxiliary=auxiliary, reduction="none")
    assert isinstance(loss.base, base)
    own = [[row_loss(heads[m], row) for m in range(3) if mask[row, m]] for row in range(8)]
    alone = np.array([row_loss(output, row) for row in range(8)])
    expected = alone + penalty.numpy() + auxiliary * np.array([sum(x) for x in own])
    close(loss((output, heads, penalty, mask), target).numpy(), expected)
    close(loss(output, target).numpy(), alone)


# ------------------------------------------------------------------------------- FeatureNetwork


def test_feature_network_standardizes_as_told():
    features = 5 + 3 * normal(7, 2)
    network = FeatureNetwork(2, 5, dropout=0.0).double().eval()
    mean, std = features.mean(0), features.std(0)
    plain = network((features - mean) / std)
    network.set_scale(mean, std)
    assert not torch.equal(network(features - mean), plain)
    close(network(features), plain)
    assert plain.shape == (7, network.out_features)
    assert {"mean", "std"} <= set(network.state_dict())


# ------------------------------------------------------------------------------- FusionNetwork


class Spy(nn.Module):
    """An encoder that keeps the batches it was given."""

    def __init__(self, out_features):
        super().__init__()
        self.out_features, self.linear = out_features, nn.Linear(2, out_features)
        self.batches = []

    def forward(self, x):
        self.batches.append(x)
        return self.linear(x)


class MaskSpy(nn.Module):
    """A fusion that keeps the masks it was given."""

    out_features = 1

    def forward(self, features, mask):
        self.seen = mask
        return mask.double().sum(1, keepdim=True)


def make_joint(encoders, fusion=ConcatFusion, **params):
    """A double-precision joint network of encoders by name, with a head for each."""
    widths = [encoder.out_features for encoder in encoders.values()]
    heads = [nn.Linear(width, N_OUTPUTS) for width in widths]
    if fusion is LogitFusion:
        return FusionNetwork(encoders, fusion([False] * N_OUTPUTS), None, heads, **params).double()
    tokens = [token_width(encoder) for encoder in encoders.values()]
    tokens = {"token_features": tokens} if fusion is AttentionFusion else {}
    fusion = fusion(widths, H, **tokens)
    return FusionNetwork(encoders, fusion, nn.Linear(H, N_OUTPUTS), heads, **params).double()


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make_spies(n_modalities=3):
    return {f"m{m}": Spy(m + 2) for m in range(n_modalities)}


def spy_batch(mask):
    """What the spies read: cells numbered by row and modality, present rows only."""
    rows = torch.arange(len(mask), dtype=torch.float64)
    cells = [torch.stack([rows, torch.full_like(rows, m)], 1) for m in range(mask.shape[1])]
    return {f"m{m}.x": x[mask[:, m]] for m, x in enumerate(cells) if mask[:, m].any()}


def real_encoders(kinds=ENCODERS):
    table = FeatureNetwork(3, 4, dropout=0.0)
    nn.init.normal_(table.embedding[1].bias)
    return {kind: make_network(kind) for kind in kinds} | {"table": table}


def real_batch(mask, kinds=ENCODERS, lengths=LENGTHS):
    """Keywords of `real_encoders` for the rows that have each."""
    whole = {kind: make_batch(kind, lengths=lengths) for kind in kinds}
    whole["table"] = {"features": normal(len(lengths), 3, seed=3)}
    batch = {}
    for (kind, own), column in zip(whole.items(), mask.T, strict=True):
        rows = column.nonzero()[:, 0].tolist()
        if rows:
            batch |= {f"{kind}.{k}": v for k, v in rows_of(own, rows).items()}
    return batch


MASKS = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6)


@pytest.mark.parametrize("training", [False, True])
@given(mask=MASKS)
def test_absent_rows_never_enter_an_encoder(training, mask):
    mask = torch.tensor(mask)
    encoders, batch = make_spies(), spy_batch(mask)
    make_joint(encoders).train(training)(mask, **batch)
    for m, encoder in enumerate(encoders.values()):
        present = mask[:, m].nonzero()[:, 0]
        assert len(encoder.batches) == bool(len(present))
        for x in encoder.batches:
            assert x[:, 0].tolist() == present.tolist()
            assert (x[:, 1] == m).all()


@pytest.mark.parametrize("fusion", [GatedFusion, ConcatFusion])
def test_training_output_is_what_its_parts_say(fusion):
    encoders, mask, batch = make_spies(), EVERY_MASK, spy_batch(EVERY_MASK)
    alignments = [(0.5, Contrastive(H, 3)), (2.0, Adversarial(H, 3))]
    common = None if fusion is GatedFusion else Projections([2, 3, 4], H)
    network = make_joint(encoders, fusion, alignments=alignments, common=common).train()
    output, heads, penalty, given = network(mask, **batch)
    features = []
    for m, (name, encoder) in enumerate(encoders.items()):
        x = torch.zeros(8, encoder.out_features, dtype=torch.float64)
        x[mask[:, m]] = encoder(batch[f"{name}.x"])
        features.append(x)
        close(heads[m], network.heads[m](x))
    close(output, network.head(network.fusion(features, mask)))
    aligned = (common or network.fusion.project)(features)
    close(penalty, sum(weight * module(aligned, mask) for weight, module in alignments))
    assert given is mask
    close(network.eval()(mask, **batch), output)
    close(network.modality_outputs(mask, **batch), torch.stack(heads, 1))
    if fusion is GatedFusion:
        close(network.weights(mask, **batch), network.fusion.weights(features, mask))


def encode_in_training(encoders, mask, batch, fusion=ConcatFusion):
    """Features, tokens and states of copies of the encoders after one batch in training mode."""
    network = make_joint(copy.deepcopy(encoders), fusion).train()
    features, tokens = network.encode(mask, batch)
    return features, tokens, [encoder.state_dict() for encoder in network.encoders]


@pytest.mark.parametrize("kind", ENCODERS)
def test_rows_without_a_modality_do_not_touch_its_encoder_in_training(kind):
    encoders = real_encoders([kind])
    few, more = as_mask("11111", "01101"), as_mask("00111110000", "11001101101")
    lengths = (7, 3, *LENGTHS, 8, 2, 2, 2)  # rows between, before and behind; longer ones
    few_batch = real_batch(few, [kind])
    batch = real_batch(more, [kind], lengths)
    for name, values in few_batch.items():
        if name.startswith(kind):  # rows 2 to 6 are those of the small batch
            batch[name] = values
    features, tokens, states = encode_in_training(encoders, few, few_batch, AttentionFusion)
    wide = encode_in_training(encoders, more, batch, AttentionFusion)
    close(wide[0][0][2:7], features[0])
    close(wide[1][0][0][2:7], tokens[0][0])
    assert torch.equal(wide[1][0][1][2:7], tokens[0][1])
    close(wide[2][0], states[0])
    assert not any(x[more.logical_not()[:, 0]].any() for x in (wide[0][0], *wide[1][0]))
    # the table's rows are other ones: a batch that is another does move the statistics
    assert not torch.equal(
        wide[2][1]["embedding.2.running_mean"], states[1]["embedding.2.running_mean"]
    )


def test_more_padding_changes_nothing_in_training(monkeypatch):
    mask = as_mask("11011", "10111", "11110", "01101")
    encoders, batch = real_encoders(), real_batch(mask)
    plain = encode_in_training(encoders, mask, batch, AttentionFusion)
    pad_networks_more(monkeypatch, 7)
    padded = encode_in_training(encoders, mask, batch, AttentionFusion)
    close(padded[0], plain[0])
    close(padded[2], plain[2])
    for (more, more_valid), (values, valid) in zip(padded[1], plain[1], strict=True):
        close(more[:, : values.shape[1]], values)
        assert torch.equal(more_valid[:, : values.shape[1]], valid)
        assert not more_valid[:, values.shape[1] :].any()
    assert padded[1][1][0].shape[1] > plain[1][1][0].shape[1]


def test_rows_present_are_encoded_in_training_as_a_batch_of_their_own():
    mask = as_mask("01001", "10111", "11111", "00110")
    encoders, batch = real_encoders(), real_batch(mask)
    features, _, states = encode_in_training(encoders, mask, batch)
    for m, (kind, encoder) in enumerate(encoders.items()):
        before = copy.deepcopy(encoder.state_dict())
        own = {k.split(".", 1)[1]: v for k, v in batch.items() if k.startswith(f"{kind}.")}
        close(features[m][mask[:, m]], encoder.double().train()(**own))
        assert not features[m][~mask[:, m]].any()
        close(states[m], encoder.state_dict())
        assert any(not torch.equal(before[name], states[m][name]) for name in before)


@pytest.mark.parametrize("fusion", [ConcatFusion, AttentionFusion])
@pytest.mark.parametrize("n_rows", [1, 4])
def test_a_modality_of_one_row_leaves_running_statistics_alone(n_rows, fusion):
    mask = torch.zeros(n_rows, 4, dtype=torch.bool)
    for m in range(4):
        mask[m % n_rows, m] = True
    network = make_joint(real_encoders(), fusion).train()
    batch = real_batch(mask, lengths=LENGTHS[:n_rows])
    before = copy.deepcopy(dict(network.named_buffers()))
    assert any("running_var" in name for name in before)
    output, *_ = network(mask, **batch)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    close(dict(network.named_buffers()), before, 0.0)
    assert all(module.training for module in network.modules())


def test_modality_dropout_hides_from_the_fusion_only():
    mask, params = EVERY_MASK, {"alignments": [(1.0, Adversarial(H, 3))]}
    network = make_joint(make_spies(), GatedFusion, modality_dropout=1.0, **params).train()
    output, heads, penalty, _ = network(mask, **spy_batch(mask))
    network.modality_dropout = 0.0
    plain = network(mask, **spy_batch(mask))
    assert not torch.allclose(output, plain[0])
    close(heads, plain[1])
    close(penalty, plain[2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fusion", [ConcatFusion, AttentionFusion, LogitFusion])
def test_batch_with_nothing_present(fusion, training):
    alignments = [(1.0, Contrastive(H, 4)), (1.0, Adversarial(H, 4))]
    encoders = real_encoders()
    widths = [encoder.out_features for encoder in encoders.values()]
    params = {"alignments": alignments, "common": Projections(widths, H), "modality_dropout": 0.5}
    network = make_joint(encoders, fusion, **params).train(training)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    out = network(mask)
    if training:
        out, heads, penalty, _ = out
        assert not penalty.any()
        for x, head in zip(heads, network.heads, strict=True):
            close(x, head.bias.expand(3, -1))
    assert out.shape == (3, N_OUTPUTS)
    nothing = network.fuse(*network.encode(mask, {}), mask)
    assert out.isfinite().all()
    close(out, nothing)
    if fusion is LogitFusion:
        assert not out.any()


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.6, 1.0])
def test_modality_dropout_hides_at_the_asked_rate_and_never_everything(dropout):
    repeats = 2000
    mask = EVERY_MASK.repeat(repeats, 1)
    fusion = MaskSpy()
    heads = [nn.Linear(encoder.out_features, 1) for encoder in make_spies().values()]
    network = FusionNetwork(
        make_spies(), fusion, nn.Identity(), heads, modality_dropout=dropout
    ).double()
    _, _, _, told = network.train()(mask, **spy_batch(mask))
    seen = fusion.seen
    assert told is mask
    assert not (seen & ~mask).any()
    assert torch.equal(seen.any(1), mask.any(1))
    hidden = (mask & ~seen).view(repeats, 8, 3).double().mean(0)
    for present, rates in zip(EVERY_MASK, hidden, strict=True):
        k = int(present.sum())
        # one of k, each as likely as another, comes back where chance hid all of them
        rate = dropout - dropout**k / k if k else 0.0
        if k == 1:
            rate = 0.0
        error = 5 * math.sqrt(rate * (1 - rate) / repeats)
        assert ((rates[present] - rate).abs() <= error + 1e-12).all()
    network.eval()(mask, **spy_batch(mask))
    assert torch.equal(fusion.seen, mask)


@pytest.mark.parametrize("fusion", [ConcatFusion, GatedFusion, AttentionFusion, LogitFusion])
def test_rows_are_independent_in_evaluation(fusion):
    mask = as_mask("11010", "10110", "11100", "01100")
    network = make_joint(real_encoders(), fusion, modality_dropout=0.5).eval()
    batch = real_batch(mask)
    methods = [network, network.modality_outputs]
    methods += [network.weights] if hasattr(network.fusion, "weights") else []
    together = [method(mask, **batch) for method in methods]
    for row in range(5):
        only = torch.zeros_like(mask)
        only[row] = mask[row]
        part = real_batch(only)  # no keywords of the modalities that the row lacks
        for method, expected in zip(methods, together, strict=True):
            close(method(mask[[row]], **part), expected[[row]])
