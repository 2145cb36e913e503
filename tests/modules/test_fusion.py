"""Learned fusions against identities and steps by hand, and the tokens that they read."""

import itertools
import math
import pickle
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import functional_call

from sklearn_mmfusion.modules.fusion import NETWORK_FUSIONS

KINDS = list(NETWORK_FUSIONS)
WEIGHING = [kind for kind, (cls, _) in NETWORK_FUSIONS.items() if hasattr(cls, "weights")]
H = 4
RANK, ROUNDS, HEADS = 3, 2, 2
PARAMS = {
    "low_rank": {"rank": RANK},
    "attention": {"num_heads": HEADS},
    "graph": {"num_heads": HEADS, "num_rounds": ROUNDS},
    "logits": {"averaged": [True, False, True, False]},
}
LISTS = ("project", "hidden", "factors", "tokens")  # one module a modality
EVERY_MASK = torch.tensor(list(itertools.product([True, False], repeat=3)))
WIDTHS = [2, 3, 1]
LENGTHS = (5, 2, 9, 1, 4)


def make_fusion(kind, widths, seed=0):
    """A fusion in double precision whose parameters, biases and scores too, are random."""
    cls, fixed = NETWORK_FUSIONS[kind]
    sizes = () if kind == "logits" else (widths, H)
    tokens = {"token_features": [w + 1 for w in widths]} if kind == "attention" else {}
    fusion = cls(*sizes, **fixed, **tokens, **PARAMS.get(kind, {})).double()
    random = torch.Generator().manual_seed(seed)
    for parameter in fusion.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
    return fusion


def make_batch(kind, widths, mask, seed=1):
    """Features, mask and, where they are read, tokens, of which the first of each is valid."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    widths = [H] * len(widths) if kind == "logits" else widths
    features = [normal(len(mask), width) for width in widths]
    if kind != "attention":
        return features, mask
    tokens = []
    for m, width in enumerate(widths):
        valid = normal(len(mask), m % 3 + 1) > 0
        valid[:, 0] = True
        tokens.append((normal(*valid.shape, width + 1), valid))
    return features, mask, tokens


def rows_of(batch, rows):
    features, mask, *tokens = batch
    tokens = [[(values[rows], valid[rows]) for values, valid in own] for own in tokens]
    return [x[rows] for x in features], mask[rows], *tokens


def modalities_of(batch, kept):
    features, mask, *tokens = batch
    return [features[m] for m in kept], mask[:, kept], *[[own[m] for m in kept] for own in tokens]


def filled(batch, value):
    """The batch with `value` wherever nothing is: absent modalities and tokens not valid."""
    features, mask, *tokens = batch
    there = mask.T[..., None]

    def fill(x, present):
        return torch.where(present, x, value)

    features = [fill(x, present) for x, present in zip(features, there, strict=True)]
    tokens = [
        [(fill(x, (v & here)[..., None]), v) for (x, v), here in zip(own, there, strict=True)]
        for own in tokens
    ]
    return features, mask, *tokens


def rebuilt(kind, fusion, widths, kept):
    """The fusion built for the modalities `kept`, in that order, with the parameters of another."""
    blocks = torch.arange(sum(widths)).split(widths)
    columns = torch.cat([blocks[m] for m in kept])
    lost = [m for m in range(len(widths)) if m not in kept]
    state = {}
    for name, value in fusion.state_dict().items():
        part, m, *rest = name.split(".") + [""]
        if part not in LISTS:
            state[name] = value
        elif int(m) in kept:
            state[".".join([part, str(kept.index(int(m))), rest[0]])] = value
    if kind == "concat":
        state["linear.weight"] = state["linear.weight"][:, columns]
    elif kind == "weighted":
        state["scores"] = state["scores"][kept]
    elif kind == "gated":
        gates = state["gate.weight"].view(len(widths), H, -1)
        state["gate.weight"] = gates[kept][..., columns].flatten(0, 1)
    elif kind == "low_rank":  # a factor of x_m = 0 is its bias, which scales the others
        for name in ("factors.0.weight", "factors.0.bias"):
            for m in lost:
                scale = fusion.factors[m].bias.detach()
                state[name] = state[name] * scale.view(-1, *[1] * (state[name].ndim - 1))
    elif kind == "tensor":  # of [1; 0] the 1 is left
        weight = state["linear.weight"].view(H, *[width + 1 for width in widths])
        for m in reversed(lost):
            weight = weight.select(m + 1, 0)
        axes = [1 + sorted(kept).index(m) for m in kept]
        state["linear.weight"] = weight.permute(0, *axes).flatten(1)
    new = make_fusion(kind, [widths[m] for m in kept], seed=9)
    new.load_state_dict(state)
    return new


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@st.composite
def problems(draw, min_modalities=2):
    """Widths of some modalities, and which of them a few rows have."""
    widths = draw(st.lists(st.integers(1, 3), min_size=min_modalities, max_size=4))
    row = st.lists(st.booleans(), min_size=len(widths), max_size=len(widths))
    return widths, torch.tensor(draw(st.lists(row, min_size=1, max_size=5)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind):
    fusion = make_fusion(kind, WIDTHS)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    features, _, *tokens = make_batch(kind, WIDTHS, mask)
    parameters = dict(fusion.named_parameters())
    valid = [v for own in tokens for _, v in own]
    inputs = features + [values for own in tokens for values, _ in own]

    def run(*tensors):
        x, given = tensors[: len(inputs)], tensors[len(inputs) :]
        own = [list(zip(x[len(WIDTHS) :], valid, strict=True))] if valid else []
        args = (list(x[: len(WIDTHS)]), mask, *own)
        return functional_call(fusion, dict(zip(parameters, given, strict=True)), args)

    leaves = [x.detach().clone().requires_grad_() for x in (*inputs, *parameters.values())]
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("kind", KINDS)
@given(problems(), st.data())
def test_masked_equals_built_without(kind, problem, data):
    widths, mask = problem
    everything = range(len(widths))
    kept = data.draw(st.sets(st.sampled_from(everything), min_size=1).map(sorted))
    mask[:, [m for m in everything if m not in kept]] = False
    fusion, batch = make_fusion(kind, widths), make_batch(kind, widths, mask)
    smaller, part = rebuilt(kind, fusion, widths, kept), modalities_of(batch, kept)
    close(fusion(*batch), smaller(*part))
    if kind in WEIGHING:
        close(fusion.weights(*batch)[:, kept], smaller.weights(*part))


@pytest.mark.parametrize("kind", KINDS)
@given(problems(), st.data())
def test_order_of_modalities_does_not_matter(kind, problem, data):
    widths, mask = problem
    order = data.draw(st.permutations(range(len(widths))))
    fusion, batch = make_fusion(kind, widths), make_batch(kind, widths, mask)
    other, part = rebuilt(kind, fusion, widths, order), modalities_of(batch, order)
    close(fusion(*batch), other(*part))
    if kind in WEIGHING:
        close(fusion.weights(*batch)[:, order], other.weights(*part))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_what_stands_for_the_absent_does_not_matter(kind, value):
    fusion, batch = make_fusion(kind, WIDTHS), make_batch(kind, WIDTHS, EVERY_MASK)
    expected = fusion(*batch)
    close(fusion(*filled(batch, value)), expected, 1e-12)
    if kind in WEIGHING:
        expected = fusion.weights(*batch)
        close(fusion.weights(*filled(batch, value)), expected, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_every_mask_has_finite_outputs_and_gradients(kind, value):
    fusion = make_fusion(kind, WIDTHS)
    features, mask, *tokens = filled(make_batch(kind, WIDTHS, EVERY_MASK), value)
    there = [mask[:, m, None] for m in range(3)]
    inputs = features + [values for own in tokens for values, _ in own]
    there += [(mask[:, m, None] & v)[..., None] for own in tokens for m, (_, v) in enumerate(own)]
    for x in inputs:
        x.requires_grad_()
    out = fusion(features, mask, *tokens)
    assert out.isfinite().all()
    out.square().sum().backward()
    for x, part in zip(inputs, there, strict=True):
        assert not x.grad[~part.expand_as(x)].any()
        assert kind == "max" or x.grad[part.expand_as(x)].all()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_copies_equal_the_original(kind):
    fusion, batch = make_fusion(kind, WIDTHS), make_batch(kind, WIDTHS, EVERY_MASK)
    loaded = make_fusion(kind, WIDTHS, seed=3)
    if fusion.state_dict():
        assert not torch.equal(loaded(*batch), fusion(*batch))
    loaded.load_state_dict(fusion.state_dict())
    for copy in (loaded, pickle.loads(pickle.dumps(fusion))):
        assert torch.equal(copy(*batch), fusion(*batch))
        assert copy.out_features == fusion.out_features == H


@pytest.mark.parametrize("kind", KINDS)
@given(problems(min_modalities=1))
def test_rows_are_independent(kind, problem):
    widths, mask = problem
    fusion, batch = make_fusion(kind, widths), make_batch(kind, widths, mask)
    methods = [fusion] + ([fusion.weights] if kind in WEIGHING else [])
    for method in methods:
        together = method(*batch)
        alone = [method(*rows_of(batch, [row])) for row in range(len(mask))]
        close(together, torch.cat(alone), 1e-12)
    expected = fusion(*batch)
    with torch.no_grad():  # the fast path of torch's attention
        close(fusion.eval()(*batch), expected.detach(), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_number_of_parameters_is_the_documented_one(kind, widths):
    fusion = make_fusion(kind, widths)
    formula = re.search(r"Parameters (.+?)(?:, cost| with | \(the)", fusion.__doc__, re.DOTALL)[1]
    formula = re.sub(r"(?<=[\w)])\s+(?=[\w(])", " * ", formula)  # side by side is a product
    sizes = {"h": H, "D": sum(widths), "M": len(widths), "E": sum(widths) + len(widths)}
    sizes |= {"P": math.prod(w + 1 for w in widths), "rank": RANK, "rounds": ROUNDS, "none": 0}
    assert sum(p.numel() for p in fusion.parameters()) == eval(formula, {}, sizes)


@pytest.mark.parametrize("kind", WEIGHING)
@given(problems(min_modalities=1))
def test_weights_are_shares_of_what_is_present(kind, problem):
    widths, mask = problem
    weights = make_fusion(kind, widths).weights(*make_batch(kind, widths, mask))
    assert weights.shape == mask.shape
    assert ((weights > 0) == mask).all()
    close(weights.sum(1), mask.any(1).double(), 1e-12)


def pooled(pool):
    return lambda fusion, x, _: pool(torch.stack([fusion.project[m](v) for m, v in x.items()]))


def weighted_step(fusion, x, _):
    shares = torch.stack([fusion.scores[m].exp() for m in x])
    rows = zip(shares / shares.sum(), x.items(), strict=True)
    return sum(share * fusion.project[m](v) for share, (m, v) in rows)


def concat_step(fusion, x, widths):
    blocks = fusion.linear.weight.split(widths, 1)
    return fusion.linear.bias + sum(blocks[m] @ v for m, v in x.items())


def logits_step(fusion, x, _):
    total = torch.stack(list(x.values())).sum(0)
    averaged = torch.tensor(PARAMS["logits"]["averaged"])
    return torch.stack([t / len(x) if a else t for t, a in zip(total, averaged, strict=True)])


def low_rank_step(fusion, x, widths):
    total = fusion.bias
    for r, weight in enumerate(fusion.weight):
        own = slice(r * H, r * H + H)
        factors = [
            layer.bias[own] + (layer.weight[own] @ x[m] if m in x else 0.0)
            for m, layer in enumerate(fusion.factors)
        ]
        total = total + weight * torch.stack(factors).prod(0)
    return total


def tensor_step(fusion, x, widths):
    total = fusion.linear.bias
    slots = itertools.product(*[range(width + 1) for width in widths])
    for column, slot in zip(fusion.linear.weight.T, slots, strict=True):
        for m, place in enumerate(slot):
            if place:
                column = column * (x[m][place - 1] if m in x else 0.0)
        total = total + column
    return total


STEPS = {
    "concat": concat_step,
    "weighted": weighted_step,
    "sum": pooled(lambda x: x.sum(0)),
    "mean": pooled(lambda x: x.mean(0)),
    "max": pooled(lambda x: x.max(0).values),
    "low_rank": low_rank_step,
    "tensor": tensor_step,
    "logits": logits_step,
}


@pytest.mark.parametrize("kind", STEPS)
def test_fusion_of_a_row_equals_the_step_by_hand(kind):
    fusion, mask = make_fusion(kind, WIDTHS), EVERY_MASK[:-1]
    features, _ = make_batch(kind, WIDTHS, mask)
    out = fusion(features, mask)
    for row, present in enumerate(mask):
        x = {m: features[m][row] for m in range(3) if present[m]}
        close(out[row], STEPS[kind](fusion, x, WIDTHS), 1e-12)


@given(problems(min_modalities=1))
def test_low_rank_equals_tensor_of_its_factors(problem):
    widths, mask = problem
    low_rank, tensor = make_fusion("low_rank", widths), make_fusion("tensor", widths)
    weights = low_rank.weight[:, None].expand(RANK, H)
    for layer in low_rank.factors:  # (rank, h, P_1) x (rank, h, 1 + d) -> (rank, h, P_1 (1 + d))
        factor = torch.cat([layer.bias[:, None], layer.weight], 1).view(RANK, H, -1)
        weights = torch.einsum("rhp,rhd->rhpd", weights.reshape(RANK, H, -1), factor)
    tensor.linear.weight.data = weights.sum(0).flatten(1).detach()
    tensor.linear.bias.data = low_rank.bias.data
    batch = make_batch("tensor", widths, mask)
    close(low_rank(*batch), tensor(*batch))


def test_gated_of_two_equals_the_bimodal_unit():
    widths, mask = [2, 3], torch.tensor([[1, 1], [1, 1], [1, 0], [0, 1]], dtype=torch.bool)
    fusion = make_fusion("gated", widths)
    (image, text), _ = make_batch("gated", widths, mask)
    h_image, h_text = (
        torch.tanh(x @ layer.weight.T + layer.bias)
        for x, layer in zip((image, text), fusion.hidden, strict=True)
    )
    gate_image, gate_text = fusion.gate.weight.chunk(2)
    z = torch.sigmoid(torch.cat([image, text], 1) @ (gate_image - gate_text).T)
    out, weights = fusion([image, text], mask), fusion.weights([image, text], mask)
    close(out[:2], (z * h_image + (1 - z) * h_text)[:2], 1e-12)
    close(weights[:2], torch.stack([z.mean(1), 1 - z.mean(1)], 1)[:2], 1e-12)
    close(out[2:], torch.stack([h_image[2], h_text[3]]), 1e-12)


def attend_by_hand(attention, queries, keys):
    """softmax(Q K^T / sqrt(d)) V, heads side by side, and the mean of the heads' softmax."""
    maps = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    q, k, v = (
        (x @ w.T + b).unflatten(1, (HEADS, -1)).transpose(0, 1)
        for x, (w, b) in zip((queries, keys, keys), maps, strict=True)
    )
    shares = torch.softmax(q @ k.mT / math.sqrt(H / HEADS), 2)
    answers = (shares @ v).transpose(0, 1).flatten(1)
    return answers @ attention.out_proj.weight.T + attention.out_proj.bias, shares.mean(0)


def attend_by_module(attention, queries, keys):
    answers, shares = attention(queries[None], keys[None], keys[None])
    return answers[0], shares[0]


@pytest.mark.parametrize("attend", [attend_by_hand, attend_by_module])
@given(problems(min_modalities=1))
def test_attention_equals_attention_over_gathered_tokens(attend, problem):
    widths, mask = problem
    mask[0, 0] = True
    fusion, batch = make_fusion("attention", widths), make_batch("attention", widths, mask)
    features, _, tokens = batch
    out, weights = fusion(*batch), fusion.weights(*batch)
    for row in mask.any(1).nonzero()[:, 0]:
        present = mask[row].nonzero()[:, 0].tolist()
        queries = torch.stack([fusion.project[m](features[m][row]) for m in present])
        own = [fusion.tokens[m](tokens[m][0][row, tokens[m][1][row]]) for m in present]
        answers, shares = attend(fusion.attention, queries, torch.cat(own))
        close(out[row], (queries + answers).mean(0))
        parts = shares.mean(0).split([len(x) for x in own])
        close(weights[row, present], torch.stack([part.sum() for part in parts]))


@pytest.mark.parametrize("attend", [attend_by_hand, attend_by_module])
@given(problems(min_modalities=1))
def test_graph_equals_rounds_of_attention_over_the_nodes_present(attend, problem):
    widths, mask = problem
    mask[0, 0] = True
    fusion, (features, _) = make_fusion("graph", widths), make_batch("graph", widths, mask)
    out, weights = fusion(features, mask), fusion.weights(features, mask)
    for row in mask.any(1).nonzero()[:, 0]:
        present = mask[row].nonzero()[:, 0].tolist()
        nodes = torch.stack([fusion.project[m](features[m][row]) for m in present])
        for attention in fusion.rounds:
            messages, shares = attend(attention, nodes, nodes)
            nodes = nodes + messages
        close(out[row], nodes.mean(0))
        close(weights[row, present], shares.mean(0))


def test_attention_of_a_row_without_tokens_is_what_was_asked():
    # an empty text is present and has no token
    mask = torch.tensor([[True, True, False]])
    fusion = make_fusion("attention", WIDTHS)
    features, _, tokens = make_batch("attention", WIDTHS, mask)
    tokens = [(values, torch.zeros_like(valid)) for values, valid in tokens]
    queries = [fusion.project[m](features[m]) for m in range(2)]
    out = fusion(features, mask, tokens)
    close(out, sum(queries) / 2, 1e-12)
    assert fusion.weights(features, mask, tokens).isfinite().all()
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())


def test_too_large_a_tensor_is_refused_before_it_is_allocated():
    cls, _ = NETWORK_FUSIONS["tensor"]
    widths = [10**6] * 3  # 4e18 bytes of products: an attempt would fail with a RuntimeError
    with pytest.raises(ValueError, match="low_rank"):
        cls(widths, H)
    assert cls([1, 2], H, max_weights=24).linear.weight.numel() == 24
    with pytest.raises(ValueError, match="needs 6 products and 24 weights.*max_weights=23"):
        cls([1, 2], H, max_weights=23)


def test_unknown_pooling_is_refused():
    cls, _ = NETWORK_FUSIONS["mean"]
    with pytest.raises(ValueError, match="method is 'median'"):
        cls([1, 2], H, method="median")
