import math

import pytest
import torch

from metricconv_mm.denoising import check_sigma, cuda_randn, frozen_noise, gaussian_noise, generalisation_gap, psnr


def test_the_numbers_of_a_gpu():
    """What ``torch.manual_seed(42); torch.randn(5, device='cuda')`` prints."""
    assert [f'{value:.4f}' for value in cuda_randn([5], 42).tolist()] == ['0.1940', '2.1614', '-0.1721', '0.8491', '-1.9244']


def test_the_emulated_numbers_are_normal_and_calls_independent():
    first, second = gaussian_noise((256, 256), 7, calls=2, generator='cuda')
    for noise in (first, second):
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
        assert abs((noise**4).mean() - 3) < 0.2, 'the tails of a normal distribution'
    correlations = torch.corrcoef(torch.stack([first.flatten(), second.flatten(), first.roll(1).flatten()]))
    assert (correlations - torch.eye(3)).abs().max() < 0.03
    assert not torch.equal(first, cuda_randn((256, 256), 8))
    # an element's number does not depend on how many there are
    assert torch.equal(cuda_randn([10], 7), cuda_randn([2, 50], 7).flatten()[:10])


def test_noise_of_the_cpu_is_that_of_torch():
    torch.manual_seed(3)
    expected = torch.randn(2, 3), torch.randn(2, 3)
    assert all(map(torch.equal, gaussian_noise((2, 3), 3, calls=2), expected))


def test_more_numbers_than_a_gpu_has_threads_are_refused():
    with pytest.raises(ValueError, match='use the noise of the CPU'):
        cuda_randn((512, 512), 0)
    with pytest.raises(ValueError, match="choose 'cpu' or 'cuda'"):
        gaussian_noise((2, 2), 0, generator='gpu')


@pytest.mark.parametrize('generator', ['cpu', 'cuda'])
def test_seeds_have_64_bits(generator):
    for seed in (-(2**63), 2**64 - 1):
        assert gaussian_noise((2, 2), seed, generator=generator)[0].isfinite().all()
    for seed in (-(2**63) - 1, 2**64):
        with pytest.raises(ValueError, match='a seed of 64 bits'):
            gaussian_noise((2, 2), seed, generator=generator)


def test_frozen_noise_depends_on_seed_sigma_and_name_alone():
    noise = frozen_noise((64, 64), 'a', 0.3, seed=1)
    torch.randn(5)
    assert torch.equal(noise, frozen_noise((64, 64), 'a', 0.3, seed=1))
    assert abs(noise.std() - 0.3) < 0.02
    for other in (('b', 0.3, 1), ('a', 0.5, 1), ('a', 0.3, 2)):
        correlation = torch.corrcoef(torch.stack([noise.flatten(), frozen_noise((64, 64), *other).flatten()]))[0, 1]
        assert abs(correlation) < 0.1


@pytest.mark.parametrize('sigma', [-0.1, 1e30, math.inf, math.nan])
def test_a_sigma_that_is_no_deviation_is_refused(sigma):
    with pytest.raises(ValueError, match='from 0 to 1e\\+06'):
        check_sigma(sigma)


def test_measures():
    clean = torch.rand(1, 8, 8)
    assert psnr(clean + 0.1, clean) == pytest.approx(20, abs=1e-3) and psnr(clean, clean) == math.inf
    assert generalisation_gap(2.0, 3.0) == 0.5 and generalisation_gap(0.0, 1.0) == math.inf and generalisation_gap(0.0, 0.0) == 0
