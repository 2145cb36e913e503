"""The point cloud network: order of points, against a loop over clouds."""

import torch
from torch.nn import functional

from tests.modules._networks import make_batch, make_network


def test_order_of_points_does_not_matter():
    network, batch = make_network("point_cloud").eval(), make_batch("point_cloud")
    clouds = batch["points"].split(batch["points_lengths"].tolist())
    random = torch.Generator().manual_seed(1)
    shuffled = [cloud[torch.randperm(len(cloud), generator=random)] for cloud in clouds]
    assert not torch.equal(torch.cat(shuffled), batch["points"])
    torch.testing.assert_close(network(**batch | {"points": torch.cat(shuffled)}), network(**batch))


def test_network_equals_a_loop_over_clouds():
    network, batch = make_network("point_cloud").eval(), make_batch("point_cloud")
    for row, cloud in enumerate(batch["points"].split(batch["points_lengths"].tolist())):
        pooled = []
        for x in cloud:
            for layer, norm in zip(network.layers, network.norms, strict=True):
                x = layer.weight @ x / (1 + norm.norm.eps) ** 0.5  # untrained: mean 0, variance 1
                x = functional.relu(x)
            pooled.append(x)
        expected = network.embedding(torch.stack(pooled).max(0).values[None])[0]
        torch.testing.assert_close(network(**batch)[row], expected)


def test_statistics_are_those_of_the_valid_points():
    network, batch = make_network("point_cloud").train(), make_batch("point_cloud", (1, 40))
    network(**batch)
    first = batch["points"] @ network.layers[0].weight.T
    torch.testing.assert_close(network.norms[0].norm.running_mean, 0.1 * first.mean(0))
