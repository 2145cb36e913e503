"""Convolutional network for images, and pooling over sets of images."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_mmfusion.modules.fusion import masked_softmax
from sklearn_mmfusion.modules.layers import BatchNorm, Embedding, FixedShapes, fixed_shapes, pad

PIXELS = 1 << 20  # of the images in one pass of the network in evaluation


class ImageCNN(nn.Module):
    """Convolutions of 3 x 3, batch norm, max pooling, ReLU, one embedding.

    Each block halves the axes that are still longer than four pixels; the result is averaged to at
    most 4 x 4, so that large images need no large last layer. In training each image is moved at
    random by up to `max_shift` of its size.

    Shape: pixels (N, C, H, W) of any numeric dtype -> (N, out_features) float.
    """

    fixed_shapes = True

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        out_features: int = 512,
        channels: tuple[int, ...] = (32, 64, 128),
        kernel_size: int = 3,
        dropout: float = 0.3,
        max_shift: float = 0.08,
    ):
        super().__init__()
        self.out_features, self.token_features = out_features, channels[-1]
        self.max_shift = max_shift
        self.register_buffer("mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("std", torch.ones(1, in_channels, 1, 1))
        sizes = [in_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2, bias=False)
            for i, o in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(BatchNorm(c) for c in channels)
        height, width = image_size
        self.pools = []
        for _ in channels:
            pool = (2 if height > 4 else 1, 2 if width > 4 else 1)
            height, width = height // pool[0], width // pool[1]
            self.pools.append(pool)
        self.grid = (min(height, 4), min(width, 4))
        self.pool_to_grid = GridPool((height, width), self.grid)
        self.to(memory_format=torch.channels_last)
        self.embedding = Embedding(
            channels[-1] * self.grid[0] * self.grid[1], out_features, dropout
        )

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the pixel mean and standard deviation of each channel, (C,) each."""
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.embedding(self._convolve(pixels).flatten(1))  # -> (N, out_features)

    def tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and the cells of the last grid as a sequence: (N, L, C), all valid."""
        x = self._convolve(pixels)
        cells = x.flatten(2).transpose(1, 2)
        return self.embedding(x.flatten(1)), cells, torch.ones_like(cells[..., 0], dtype=torch.bool)

    def _convolve(self, pixels: Tensor) -> Tensor:
        x = standardize(pixels, self.mean, self.std)
        if self.training and self.max_shift:
            x = shift(x, self.max_shift)
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            x = norm(convolution(x))
            # Pooling first is the same as ReLU first (both are monotone) and four times cheaper.
            # In place only after pooling: otherwise a hook may still hold the tensor.
            x = functional.relu(x) if pool == (1, 1) else functional.relu_(max_pool(x, pool))
        return self.pool_to_grid(x)  # (N, C, H', W') -> (N, C, g, g)


class ImageSetNetwork(FixedShapes, nn.Module):
    """A network for each image of a set, and the mean, maximum or attention-weighted mean.

    The weights of "attention" are those of Ilse, Tomczak and Welling (2018, arXiv:1802.04712).

    Shape: pixels (V, C, H, W) of any numeric dtype, lengths (N,) int64, on the CPU
    -> (N, out_features).
    """

    fixed_shapes = True

    def __init__(self, image_network: nn.Module, pooling: str = "mean", attention_size: int = 64):
        super().__init__()
        self.image_network, self.pooling = image_network, pooling
        self.out_features = self.token_features = image_network.out_features
        if pooling == "attention":
            first, last = nn.Linear(self.out_features, attention_size), nn.Linear(attention_size, 1)
            self.score = nn.Sequential(first, nn.Tanh(), last)

    def forward(self, pixels: Tensor, pixels_lengths: Tensor) -> Tensor:
        return self.tokens(pixels, pixels_lengths)[0]

    def tokens(self, pixels: Tensor, pixels_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding, and those of the images it pools: (N, L, out_features), valid (N, L)."""
        x = encode_each(self.image_network, pixels, pixels_lengths, self.present)
        x, mask = pad(x, pixels_lengths)
        return self._pool(x, mask.to(x.device, non_blocking=True)), x, mask

    def _pool(self, x: Tensor, mask: Tensor) -> Tensor:
        valid = mask[..., None]
        if self.pooling == "max":
            top = x.masked_fill(~valid, -torch.inf).amax(1)
            return torch.where(mask.any(1, keepdim=True), top, 0.0)
        if self.pooling == "mean":
            return x.sum(1) / valid.sum(1).clamp(min=1)  # padding is zero
        return (masked_softmax(self.score(x), valid) * x).sum(1)


class CustomImageSetNetwork(ImageSetNetwork):
    """The same around a custom network, which takes no masks: it never sees padding."""


def encode_each(
    network: nn.Module, images: Tensor, lengths: Tensor, present: Tensor | None
) -> Tensor:
    """Features of each image of sequences: (V, F), or (N, L, F) in the fixed layout.

    present : (N,) bool, the rows that count in the fixed layout; None for all
    """
    if lengths.ndim == 1:
        return _encode_in_parts(network, images)
    counted = lengths
    if present is not None:  # a single row has no statistics, however many images
        counted = lengths & (present & (present.sum() > 1))[:, None]
    with fixed_shapes(network, counted.flatten()):
        return _encode_in_parts(network, images.flatten(0, 1)).unflatten(0, lengths.shape)


def _encode_in_parts(network: nn.Module, images: Tensor) -> Tensor:
    if network.training:
        return network(images)
    n_images = max(1, PIXELS // (images.shape[2] * images.shape[3]))
    return torch.cat([network(part) for part in images.split(n_images)])


class GridPool(nn.Module):
    """Average over the cells of a grid, as `nn.AdaptiveAvgPool2d`, with deterministic gradients.

    torch's own layer has none on a GPU and raises under ``torch.use_deterministic_algorithms``.

    Shape: (N, C, H, W) -> (N, C, *grid).

    Parameters of the constructor: ``size``, the expected (H, W); other sizes take longer.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        self.size, self.grid = size, grid
        cells = None if self._is_even(size) else grid_cells(size, grid)
        self.register_buffer("cells", cells, persistent=False)

    def _is_even(self, size):
        return size[0] % self.grid[0] == 0 and size[1] % self.grid[1] == 0

    def forward(self, x: Tensor) -> Tensor:
        height, width = size = x.shape[2:]
        if size == self.grid:
            return x
        if self._is_even(size):
            return functional.avg_pool2d(x, (height // self.grid[0], width // self.grid[1]))
        cells = self.cells if size == self.size else grid_cells(size, self.grid, x.device)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, C): no copy if channels-last
        sums = torch.bmm(cells.to(x.dtype).expand(len(x), -1, -1), pixels)  # (N, g g, C)
        means = (sums / cells.sum(1, keepdim=True)).to(x.dtype)
        return means.unflatten(1, self.grid).permute(0, 3, 1, 2)


def grid_cells(size: tuple[int, int], grid: tuple[int, int], device=None) -> Tensor:
    """Which pixels belong to each cell of a grid, 0 or 1: (cells, pixels), both row by row.

    Cells overlap where the size is not a multiple of the grid: cell i of g reaches from
    floor(i H / g) to ceil((i + 1) H / g).
    """
    axes = []
    for length, n_cells in zip(size, grid, strict=True):
        first = torch.arange(n_cells, device=device)[:, None] * length
        steps = torch.arange(length, device=device)
        axes.append((steps >= first // n_cells) & (steps * n_cells < first + length))
    rows, columns = axes
    both = rows[:, None, :, None] & columns[None, :, None, :]  # (g, g, H, W)
    return both.flatten(2).flatten(0, 1).float()


def max_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    """Maximum over blocks of one or two pixels along each axis; the remainder is dropped.

    (N, C, H, W) -> (N, C, H // pool[0], W // pool[1])
    """
    if torch.is_grad_enabled():
        return functional.max_pool2d(x, pool)
    # Half the time: torch's own also records the position of each maximum, for gradients.
    for axis, size in ((3, pool[1]), (2, pool[0])):
        if size == 2:
            x = x.narrow(axis, 0, x.shape[axis] // 2 * 2)
            x = torch.maximum(*x.unflatten(axis, (-1, 2)).unbind(axis + 1))
    return x


def standardize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels of any numeric dtype as numbers about zero, channels last in memory.

    pixels (N, C, H, W), mean and std (1, C, 1, 1) -> (N, C, H, W)
    """
    pixels = pixels.to(mean.dtype, memory_format=torch.channels_last, copy=True)
    count, channels, height, width = pixels.shape
    # A whole row at once: an inner loop over one to three channels would be five times slower. In
    # place, on the copy: saving memory also saves time.
    rows = pixels.permute(0, 2, 3, 1).view(count, height, width * channels)
    rows.sub_(mean.view(-1).repeat(width)).div_(std.view(-1).repeat(width))
    return pixels


def shift(images: Tensor, max_shift: float) -> Tensor:
    """Move each image at random along both axes; the border is repeated.

    images (N, C, H, W), max_shift as a share of height and width -> (N, C, H, W)
    """
    count, channels, *size = images.shape
    moved = []
    for length in size:
        most = round(max_shift * length)
        offset = torch.randint(-most, most + 1, (count, 1), device=images.device)
        steps = torch.arange(length, device=images.device)
        moved.append((steps + offset).clamp(0, length - 1))  # (N, H) and (N, W)
    rows, columns = moved
    first = torch.arange(count, device=images.device)[:, None, None]
    # Channels last, so that the advanced index moves whole pixels: (N, H, W, C)
    return images.movedim(1, -1)[first, rows[:, :, None], columns[:, None]].movedim(-1, 1)
