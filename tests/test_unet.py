"""The U-Net: shapes, what its layers do to an image, and bounds on its Lipschitz constant that really hold."""

import math

import pytest
import torch
from torch import nn
from toys import normal

from ir_helpers.unet import UNet, conv_norm


def network(seed=0, *, offsets=True, **settings):
    """A small float64 U-Net in evaluation mode with random weights; batch normalisation has seen images."""
    torch.manual_seed(seed)
    net = UNet(**({"width": 3, "levels": 2} | settings)).double()
    with torch.no_grad():
        for name, weights in net.named_parameters():
            if name.endswith("bias") and not offsets:
                weights.zero_()
    if settings.get("norm") == "batch":
        for layer in (layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)):
            nn.init.normal_(layer.weight, std=2)  # of either sign
        for k in range(20):
            net(normal(4, net.settings["in_channels"], 24, 24, seed=k))
    return net.eval()


# ---- evaluation mode


def test_a_folded_norm_gives_what_the_layers_give_one_by_one():
    net, x = network(norm="batch"), normal(2, 1, 24, 24).requires_grad_()
    ours = net(x)
    wanted = [x, *net.parameters()]
    gradients = torch.autograd.grad(ours.square().sum(), wanted)
    for block in (*net.down, *net.up):
        block.forward = nn.Sequential(*block).eval().forward
    layers = net(x)
    torch.testing.assert_close(ours, layers, rtol=1e-12, atol=1e-12)
    for found, expected in zip(gradients, torch.autograd.grad(layers.square().sum(), wanted), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# ---- shapes and what is refused


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    ("channels", "levels", "size"),
    [((1, 1), 1, (5, 7)), ((1, 1), 3, (28, 28)), ((3, 1), 2, (6, 10)), ((2, 5), 4, (8, 24))],
)
@pytest.mark.parametrize("fold", [1, 3])
def test_an_image_of_the_same_size_comes_out(fold, channels, levels, size, norm):
    net = network(in_channels=channels[0], out_channels=channels[1], levels=levels, norm=norm, fold=fold)
    size = [fold * length for length in size]
    out = net(normal(3, channels[0], *size))
    assert out.shape == (3, channels[1], *size)
    assert out.isfinite().all()


BAD = {
    "height": (lambda: UNet(levels=3)(torch.zeros(1, 1, 30, 28)), r"image .*divisible by 4, got \(1, 1, 30, 28\)"),
    "width of the image": (lambda: UNet(levels=2)(torch.zeros(1, 1, 8, 7)), r"image .*divisible by 2.*\(1, 1, 8, 7\)"),
    "folds": (lambda: UNet(levels=2, fold=3)(torch.zeros(1, 1, 12, 9)), r"image .*divisible by 6, got \(1, 1, 12, 9\)"),
    "channels": (lambda: UNet(3)(torch.zeros(1, 1, 8, 8)), r"image .*\(B, 3, H, W\).*got \(1, 1, 8, 8\)"),
    "no batch": (lambda: UNet()(torch.zeros(1, 8, 8)), r"image .*got \(1, 8, 8\)"),
    "in_channels": (lambda: UNet(0), "in_channels .* 0"),
    "out_channels": (lambda: UNet(1, 1.5), "out_channels .* 1.5"),
    "width": (lambda: UNet(width=-2), "width .* -2"),
    "levels": (lambda: UNet(levels=0), "levels .* 0"),
    "fold": (lambda: UNet(fold=0), "fold .* 0"),
    "norm": (lambda: UNet(norm="layer"), r"norm must be one of \['batch', 'none'\], got 'layer'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        call()


def test_settings_are_all_that_is_needed_to_build_the_network_again():
    net = network(in_channels=2, out_channels=3, width=2, levels=2, norm="batch", fold=2)
    torch.manual_seed(99)
    again = UNet(**net.settings).double().eval()
    again.load_state_dict(net.state_dict())
    image = normal(2, 2, 8, 8)
    assert torch.equal(again(image), net(image))


# ---- laws


def test_folding_makes_channels_of_blocks_of_pixels():
    net = network(in_channels=2, out_channels=3, fold=2)
    plain = UNet(8, 12, width=3, levels=2).double()
    plain.load_state_dict(net.state_dict())
    image = normal(5, 2, 8, 12)
    # In NumPy's words: (B, C, H/2, 2, W/2, 2) -> (B, C, 2, 2, H/2, W/2), and back.
    folded = image.reshape(5, 2, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(5, 8, 4, 6)
    expected = plain(folded).reshape(5, 3, 2, 2, 4, 6).permute(0, 1, 4, 2, 5, 3).reshape(5, 3, 8, 12)
    assert torch.allclose(net(image), expected, atol=1e-12)


def test_gradient_against_finite_differences():
    net = network(width=2)
    names, weights = zip(*net.named_parameters(), strict=True)

    def output(image, *values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), image)

    image = normal(1, 1, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(output, (image, *weights), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_convolution_has_one_offset(norm):
    # Its own, or that of the normalisation, which would take away any other.
    net = network(norm=norm, levels=3)
    *layers, last = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 2 * (3 + 2)
    assert {layer.bias is None for layer in layers} == {norm == "batch"}
    assert last.bias is not None


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_weight_takes_part(norm):
    net = network(levels=3, width=8, norm=norm)
    net(normal(8, 1, 16, 16)).square().sum().backward()
    assert all(weights.grad.any() for weights in net.parameters())


def test_nothing_limits_the_values():
    # Without offsets each layer commutes with a factor t > 0; a sigmoid or a clamp anywhere would not.
    net, image = network(levels=3, offsets=False), normal(2, 1, 8, 8)
    for factor in (1e-6, 1e6):
        assert torch.allclose(net(factor * image), factor * net(image), rtol=1e-9, atol=1e-9 * factor)
    assert net(image).min() < 0 < net(image).max()


def spot(down, right):
    """A black image with a bright spot, so far from the rim that the network does not feel it."""
    image = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    image[:, :, 28 + down : 33 + down, 28 + right : 31 + right] = normal(5, 3).abs()
    return image


def moved(net, down, right):
    expected = net(spot(0, 0)).roll((down, right), dims=(2, 3))
    return (net(spot(down, right)) - expected).abs().max() / expected.abs().max()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_coarsest_grid_is_that_of_the_levels(levels):
    # Shifts by 2^(levels − 1) pixels move the output along; with levels above 1, shifts by half of that do not.
    net, step = network(levels=levels, offsets=False), 2 ** (levels - 1)
    for shift in ((step, 0), (0, -step), (step, step)):
        assert moved(net, *shift) < 1e-12
    if levels > 1:
        assert moved(net, step // 2, 0) > 1e-3
        assert moved(net, 0, step // 2) > 1e-3


def test_fine_detail_goes_around_the_coarse_levels():
    net = network(levels=3, offsets=False)
    with torch.no_grad():
        for weights in net.down[1:].parameters():
            weights.zero_()
    # What is left has no grid but that of the pixels, and still sees the image.
    assert moved(net, 1, 0) < 1e-12
    assert moved(net, 0, 1) < 1e-12
    assert net(spot(0, 0)).abs().max() > 1e-3


def test_the_coarse_levels_see_farther_than_the_fine_one():
    reach = {}
    for levels in (1, 2, 3):
        change = network(levels=levels, offsets=False, width=8)(spot(0, 0))[0, 0].abs() > 0
        reach[levels] = change.any(1).sum().item()
    assert reach[1] == 5 + 2 * 2  # the height of the spot, and a pixel on either side for each convolution
    assert reach[2] >= reach[1] + 8
    assert reach[3] >= reach[2] + 16


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_items_of_a_batch_are_independent_in_evaluation_mode(norm):
    net, images = network(norm=norm), normal(5, 1, 8, 8)
    together, alone = net(images), torch.cat([net(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-12)
    changed = torch.cat([images[:4], 100 * images[4:]])
    assert torch.allclose(net(changed)[:4], together[:4], atol=1e-12)
    net.train()
    coupled = not torch.allclose(net(changed)[:4], net(images)[:4], atol=1e-3)
    assert coupled == (norm == "batch")


# ---- bounds


def jacobian_norm(net, image):
    """The largest singular value of the network's derivative at an image."""
    derivative = torch.autograd.functional.jacobian(net, image)
    return torch.linalg.matrix_norm(derivative.reshape(image.numel(), -1), ord=2).item()


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("levels", "fold"), [(1, 1), (2, 1), (3, 1), (2, 2)])
def test_lipschitz_bound_holds(levels, fold, norm):
    for seed in range(3):
        net = network(seed, levels=levels, norm=norm, in_channels=2, out_channels=2, fold=fold)
        bound, u = net.lipschitz_bound(), normal(1, 2, 4, 4, seed=seed)
        assert jacobian_norm(net, u) <= bound
        for distance in (1e-3, 1.0, 1e3):
            v = u + distance * normal(1, 2, 4, 4, seed=seed + 9)
            assert (net(u) - net(v)).norm() <= bound * (u - v).norm()


def centre_taps(levels, norm="none"):
    """A network whose kernels are zero but for their centre: pixels meet only between levels."""
    net = network(width=1, levels=levels, norm=norm, offsets=False)
    with torch.no_grad():
        for weights in net.parameters():
            if weights.ndim == 4:
                weights.zero_()
                weights[:, :, weights.shape[2] // 2, weights.shape[3] // 2] = 1
        net.last.weight.fill_(1.5)
    return net


@pytest.mark.parametrize("share", [0.25, 1.0, 10.0])
@pytest.mark.parametrize("levels", [1, 2])
def test_lipschitz_bound_counts_no_more_than_it_must(levels, share):
    # Nearly tight where the coarse level has a share, but for the k of conv_norm: a centre tap of W has the norm ‖W‖, and
    # a third of it is bounded by just that. The change is the brightest pixel of each block, so every maximum passes it.
    net = centre_taps(levels)
    with torch.no_grad():
        net.down[-1][0].weight *= share
    image = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    change = torch.zeros_like(image)
    change[..., ::2, ::2] = 1
    gain = (net(image + 2 * change) - net(image + change)).norm() / change.norm()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.weight /= 3
    assert gain * (1 - 1e-12) <= net.lipschitz_bound() <= 1.25 * gain


def test_lipschitz_bound_is_built_from_the_coarsest_level_up():
    net = network(levels=4, width=2)
    with torch.no_grad():
        for block, factor in zip([*net.down, *net.up], (3.0, 0.3, 2.0, 0.01, 0.1, 1.0, 5.0), strict=True):
            block[0].weight *= factor

    def block_norm(block):
        return conv_norm(block[0]) * conv_norm(block[3])

    def from_level(level):
        if level == 3:
            return block_norm(net.down[3])
        # Growing repeats each pixel four times, which doubles the norm.
        joined = math.hypot(1, 2 * from_level(level + 1))
        return block_norm(net.down[level]) * joined * block_norm(net.up[level])

    assert net.lipschitz_bound() == pytest.approx(from_level(0) * conv_norm(net.last), rel=1e-12)


def test_lipschitz_bound_takes_in_the_scales_of_batch_normalisation():
    plain, scaled = centre_taps(2), centre_taps(2, norm="batch")
    layers = [layer for layer in scaled.modules() if isinstance(layer, nn.BatchNorm2d)]
    gains = []
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.fill_((-1) ** k * (1.5 + k))
            layer.running_var.fill_(0.1 + k)
            gains.append((1.5 + k) / math.sqrt(0.1 + k + layer.eps))
        # down: two layers on each of two levels, then two on the way up
        plain.down[0][0].weight *= gains[0] * gains[1]
        plain.down[1][0].weight *= gains[2] * gains[3]
        plain.up[0][0].weight *= gains[4] * gains[5]
    assert scaled.lipschitz_bound() == pytest.approx(plain.lipschitz_bound(), rel=1e-12)


def matrix_of(layer, shape):
    """The matrix of a layer without its offset, column by column: its values on the unit images."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (layer(units) - layer(torch.zeros_like(units[:1]))).flatten(1).T


LAYERS = {
    "1 × 1": nn.Conv2d(3, 4, 1),
    "3 × 3": nn.Conv2d(2, 3, 3, padding=1),
    "3 × 3, one channel": nn.Conv2d(1, 1, 3, padding=1),
    "3 × 3 without padding": nn.Conv2d(2, 2, 3),
    "3 × 3 around the rim": nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
    "3 × 3, stride 2": nn.Conv2d(2, 3, 3, stride=2, padding=1),
    "5 × 5": nn.Conv2d(1, 2, 5, padding=2),
    "1 × 3": nn.Conv2d(2, 2, (1, 3), padding=(0, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_conv_norm_against_the_exact_norm(name):
    layer = LAYERS[name].double()
    k = math.sqrt(math.prod(layer.kernel_size))
    for seed in range(5):
        with torch.no_grad():
            layer.weight.copy_(normal(*layer.weight.shape, seed=seed))
        exact = torch.linalg.matrix_norm(matrix_of(layer, (layer.in_channels, 6, 6)), ord=2).item()
        # Below: some patch lies inside the image, so the layer is at least as long as W.
        assert exact * (1 - 1e-12) <= conv_norm(layer) <= k * exact * (1 + 1e-12)


def test_conv_norm_is_reached_by_an_average():
    # Equal weights on an image of one value, without a rim: nothing is lost.
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double()
    nn.init.constant_(layer.weight, 0.5)
    exact = torch.linalg.matrix_norm(matrix_of(layer, (1, 6, 6)), ord=2).item()
    assert conv_norm(layer) == pytest.approx(exact) == pytest.approx(4.5)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_conv_norm_refuses_a_rim_that_repeats_pixels(mode):
    # Those pixels lie in more than k² patches: the bound would be none.
    with pytest.raises(ValueError, match=mode):
        conv_norm(nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_conv_norm_of_a_linear_layer_is_exact(shape):
    layer = nn.Linear(*shape).double()
    s = torch.linalg.svdvals(matrix_of(layer, (shape[0],)))
    assert conv_norm(layer) == pytest.approx(s[0].item(), rel=1e-12)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.ConvTranspose2d(1, 1, 3), torch.ones(2, 2)])
def test_conv_norm_refuses_other_layers(layer):
    with pytest.raises(TypeError, match=rf"layer .*{type(layer).__name__}"):
        conv_norm(layer)
