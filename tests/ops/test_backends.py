"""Which backend runs."""

from dataclasses import replace

import pytest
import torch

from metricconv_mm import use_backend
from metricconv_mm.functional import shifted_conv2d
from metricconv_mm.ops import BACKENDS, Backend, backends

REFERENCE = BACKENDS['reference']


def run():
    return shifted_conv2d(torch.ones(1, 1, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 1, 1))


@pytest.fixture
def first(monkeypatch):
    """A function that puts a backend before the others, and gives a list of what ran on it."""

    def put(name='fake', missing=None, refusal=None):
        calls = []
        forward = lambda call: calls.append(call.operator) or REFERENCE.forward(call)  # noqa: E731
        fake = Backend(name, lambda: missing, lambda call: refusal, forward, REFERENCE.backward)
        monkeypatch.setattr(backends, 'BACKENDS', {name: fake, **BACKENDS})
        return calls

    return put


def test_the_reference_runs_by_name():
    with use_backend('reference'):
        assert torch.equal(run(), torch.ones(1, 1, 3, 3))


def test_auto_takes_the_first_that_can(first):
    calls = first()
    run()
    assert calls == ['shifted_conv2d']
    with use_backend('reference'):
        run()
    with use_backend('auto'):
        run()
    assert calls == ['shifted_conv2d'] * 2


@pytest.mark.parametrize('why', ['missing', 'refusal'])
def test_auto_passes_over_what_cannot_run(first, why):
    calls = first(**{why: 'it is tired'})
    assert torch.equal(run(), torch.ones(1, 1, 3, 3))
    assert calls == []


@pytest.mark.parametrize('why', ['missing', 'refusal'])
def test_asked_for_by_name_a_backend_runs_or_says_why_not(first, why):
    first(**{why: 'it is tired'})
    with use_backend('fake'), pytest.raises(RuntimeError, match=r"shifted_conv2d cannot run on backend 'fake'\. fake: it is tired"):
        run()


def test_auto_says_every_reason_when_none_can(monkeypatch):
    refusing = {name: replace(backend, missing=lambda n=name: f'no {n} here') for name, backend in BACKENDS.items()}
    monkeypatch.setattr(backends, 'BACKENDS', refusing)
    with pytest.raises(RuntimeError) as error:
        run()
    assert all(f'{name}: no {name} here' in str(error.value) for name in BACKENDS)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown backend 'cuda11': choose one of \['auto', ") as error, use_backend('cuda11'):
        pass
    assert all(repr(name) in str(error.value) for name in BACKENDS)


def test_the_environment_chooses_too(first, monkeypatch):
    calls = first()
    monkeypatch.setenv('METRICCONV_BACKEND', 'reference')
    run()
    assert calls == []
    monkeypatch.setenv('METRICCONV_BACKEND', 'fake')
    run()
    assert len(calls) == 1
    monkeypatch.setenv('METRICCONV_BACKEND', 'cuda11')
    with pytest.raises(ValueError, match="unknown backend 'cuda11'"):
        run()


def test_a_block_goes_before_the_environment_and_ends(first, monkeypatch):
    calls = first()
    monkeypatch.setenv('METRICCONV_BACKEND', 'fake')
    with use_backend('reference'):
        run()
        with use_backend('fake'):
            run()
        run()
    assert len(calls) == 1
    with pytest.raises(ZeroDivisionError), use_backend('reference'):
        _ = 1 / 0
    run()
    assert len(calls) == 2


def test_the_backward_runs_on_the_backend_of_its_forward(first):
    first()
    ran = []
    fake = backends.BACKENDS['fake']
    backends.BACKENDS['fake'] = replace(fake, backward=lambda *arguments: ran.append(1) or REFERENCE.backward(*arguments))
    image = torch.ones(1, 1, 3, 3, requires_grad=True)
    with use_backend('reference'):
        out = shifted_conv2d(image, torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 1, 1))
    out.sum().backward()
    assert not ran
