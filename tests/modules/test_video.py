"""The network over clips: a loop over clips and frames, and the fixed layout."""

import pytest
import torch

from sklearn_mmfusion.modules import image
from sklearn_mmfusion.modules.layers import fixed_shapes, pad
from tests.modules._networks import make_batch, make_network

KINDS = ["video_gru", "video_attention"]


def attend(pooling, x):
    """Attention over one clip, head by head: (L, C) -> (2 C,)."""
    places = torch.arange(len(x)).double() / max(1, len(x) - 1)
    angles = places[:, None] * torch.pi * torch.tensor([1.0, 2.0, 4.0, 8.0])
    x = x + pooling.place(torch.cat([angles.sin(), angles.cos()], 1))
    x = pooling.mix(x).relu()
    weights = pooling.score(x).softmax(0)
    return pooling.join(torch.cat([weights[:, head] @ x for head in range(weights.shape[1])]))


@pytest.mark.parametrize("kind", KINDS)
def test_output_is_that_of_a_loop_over_clips_and_frames(kind):
    network, batch = make_network(kind).eval(), make_batch(kind)
    found = network(**batch)
    clips = batch["frames"].split(batch["frames_lengths"].tolist())
    for row, clip in enumerate(clips):
        frames = torch.cat([network.frame_network(frame[None]) for frame in clip])
        if kind == "video_attention":
            pooled = attend(network.pooling, frames)
        else:
            steps = network.pooling.recurrent.rnn(frames[None])[0][0]
            pooled = torch.cat([steps.mean(0), steps.amax(0)])
        torch.testing.assert_close(found[row], network.embedding(pooled[None])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_frames_matters(kind):
    network, batch = make_network(kind).eval(), make_batch(kind, (6,))
    turned = batch | {"frames": batch["frames"].flip(0)}
    assert not torch.allclose(network(**turned), network(**batch), atol=1e-4)


@pytest.mark.parametrize("present", [[0, 1, 2, 3, 4], [0, 2, 3], [2]])
@pytest.mark.parametrize("kind", KINDS)
def test_fixed_layout_equals_the_present_clips_alone(kind, present):
    batch = make_batch(kind)
    clips = batch["frames"].split(batch["frames_lengths"].tolist())
    alone = {
        "frames": torch.cat([clips[row] for row in present]),
        "frames_lengths": batch["frames_lengths"][present],
    }
    gathered, fixed = make_network(kind).train(), make_network(kind).train()
    if len(present) == 1:  # a single row has no statistics
        gathered.eval()
    expected = gathered(**alone)
    padded, mask = pad(batch["frames"], batch["frames_lengths"])
    there = torch.zeros(5, dtype=torch.bool)
    there[present] = True
    with fixed_shapes(fixed, there):
        found = fixed(padded, mask & there[:, None])
    torch.testing.assert_close(found[present], expected)
    for name, value in gathered.state_dict().items():
        torch.testing.assert_close(fixed.state_dict()[name], value, msg=name)


def test_evaluation_in_parts_changes_nothing(monkeypatch):
    network, batch = make_network("video_gru").eval(), make_batch("video_gru")
    expected, sizes = network(**batch), []
    monkeypatch.setattr(image, "PIXELS", 4 * 30)
    network.frame_network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(network(**batch), expected)
    assert sizes == [4, 4, 4, 4, 4, 1]
