import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from metricconv_mm.denoising import PixelwiseDeform, PixelwiseMetric, generalisation_gap, learn
from metricconv_mm.geometry import drift_norm, gradient_metric, is_positive


@pytest.fixture
def images(scene):
    """Clean, noisy and otherwise noisy, ``Tensor[1, 1, 24, 24]``."""
    clean = scene[None, :, 8:32, 8:32]
    return clean, clean + 0.2 * torch.randn(clean.shape), clean + 0.2 * torch.randn(clean.shape)


def test_metric_starts_at_the_gradient_metric(images):
    """Up to the 0.01 that the encoding adds to the diagonal of the factor."""
    metric, wanted = PixelwiseMetric(images[1], 5, 0.1).metric(), gradient_metric(images[1], iota=10, anisotropy=10)
    factor = torch.linalg.cholesky(wanted[:, [0, 1, 1, 2]].movedim(1, -1).unflatten(-1, (2, 2)))
    factor = factor + 0.01 * torch.eye(2)
    matrix = (factor @ factor.mT).flatten(-2).movedim(-1, 1)
    assert torch.allclose(metric[:, :3], matrix[:, [0, 1, 3]], rtol=1e-4, atol=1e-6)
    assert (metric[:, 3:] == 0).all()


def test_deform_starts_as_the_box(images):
    expected = nn.functional.avg_pool2d(images[1], 5, stride=1, padding=2)
    assert torch.allclose(PixelwiseDeform(images[1], 5)(images[1]), expected, atol=1e-6)


@pytest.mark.parametrize(('make', 'lr'), [(lambda x: PixelwiseMetric(x, 5, 0.1), 300.0), (lambda x: PixelwiseDeform(x, 3), 1e4)])
def test_learning_is_sgd(images, make, lr):
    ours, theirs = make(images[1]), make(images[1])
    history = learn(ours, *images, lr, 4)
    optimizer = torch.optim.SGD(theirs.parameters(), lr)
    for iteration in range(4):
        loss = mse_loss(theirs(images[1]), images[0])
        assert history.train[iteration] == pytest.approx(loss.item(), rel=1e-6)
        assert history.test[iteration] == pytest.approx(mse_loss(theirs(images[2]), images[0]).item(), rel=1e-6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other) and mine.grad is None
    assert mse_loss(history.denoised[0], images[0]).item() == pytest.approx(history.train[-1], rel=1e-6)


def test_free_offsets_overfit_and_metrics_do_not(images):
    """Table 1 in small: offsets fit the noise they see."""
    offsets, metrics = (
        learn(conv, *images, lr, 40, test_every=39)
        for conv, lr in ((PixelwiseDeform(images[1], 5), 4e4), (PixelwiseMetric(images[1], 5, 0.1), 300.0))
    )
    gaps = [generalisation_gap(history.train[-1], history.test[39]) for history in (offsets, metrics)]
    assert offsets.train[-1] < metrics.train[-1] and gaps[0] > 5 * gaps[1] > 0
    assert offsets.test.keys() == {0, 39}


def test_metrics_stay_metrics(images):
    conv = PixelwiseMetric(images[1], 5, 0.1)
    history = learn(conv, *images, 1e4, 10)
    metric = conv.metric()
    assert is_positive(metric).all() and drift_norm(metric).max() > 0.1 and not history.diverged


def test_riemannian_metrics_keep_no_drift(images):
    conv = PixelwiseMetric(images[1], 5, 1.0)
    learn(conv, *images, 300.0, 3)
    assert (conv.metric()[:, 3:] == 0).all()


def test_divergence_stops_with_the_last_finite_values(images):
    history = learn(nn.Conv2d(1, 1, 1), *images, 1e12, 50, test_every=2)
    assert history.diverged and len(history.train) == max(history.test) + 1 < 50
    assert torch.tensor([*history.train, *history.test.values()]).isfinite().all()


def test_images_that_are_not_finite_are_refused(images):
    with pytest.raises(FloatingPointError, match='before anything has been learnt'):
        learn(PixelwiseDeform(images[1], 3), images[0], images[1].log(), images[2], 1.0, 3)


def test_kernels_larger_than_the_image():
    image = torch.rand(1, 1, 4, 3)
    for conv in (PixelwiseMetric(image, 11, 0.5), PixelwiseDeform(image, 11)):
        assert torch.tensor(learn(conv, image, image + 0.1, image - 0.1, 1.0, 3).train).isfinite().all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(dict(lr=0.0), 'lr > 0'), (dict(iterations=0), 'iterations'), (dict(test_every=0), 'test_every'), (dict(lr=float('nan')), 'lr > 0')],
)
def test_arguments_out_of_range_are_refused(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        learn(PixelwiseDeform(images[1], 3), *images, **{'lr': 1.0, 'iterations': 2, **arguments})


def test_sizes_and_kernels_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError, match='images of one size'):
        learn(PixelwiseDeform(images[1], 3), images[0][..., 1:], *images[1:], 1.0, 2)
    with pytest.raises(ValueError, match='odd kernel size'):
        PixelwiseDeform(images[1], 4)
    with pytest.raises(ValueError, match='0 < eps_w <= 1'):
        PixelwiseMetric(images[1], 3, 0.0)
