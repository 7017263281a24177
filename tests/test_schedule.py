"""Learning rates against the published curves and against recurrences written out by hand."""
import math

import pytest
import torch

from basicsr.engine.schedule import (
    CosineAnnealingRestartCyclicLR,
    CosineAnnealingRestartLR,
    LinearLR,
    LinearWarmupCosineAnnealingLR,
    MultiStepRestartLR,
    SteepCosineLR,
    TrueCosineAnnealingLR,
    VibrateLR,
)
from basicsr.models.base_model import BaseModel

pytestmark = pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler.step')
LOL = {'periods': [46000, 104000], 'restart_weights': [1, 1], 'eta_mins': [3e-4, 1e-6]}


def optimizer(*rates):
    return torch.optim.Adam([{'params': [torch.nn.Parameter(torch.zeros(1))], 'lr': r} for r in rates])


class Stub:
    """What `BaseModel.update_learning_rate` needs of a model."""

    def __init__(self, schedule, *rates, **options):
        self.optimizers = [optimizer(*rates or (0.1, ))]
        self.schedulers = [schedule(self.optimizers[0], **options)]

    def rates(self, t, warmup=-1):
        BaseModel.update_learning_rate(self, t, warmup)
        return BaseModel.get_current_learning_rate(self)

    def curve(self, iterations, warmup=-1):
        return [self.rates(t, warmup)[0] for t in range(1, iterations + 1)]


# ---------------------------------------------------------------- cosine cycles


@pytest.mark.parametrize('t, expected', [(1, 2e-4), (23001, 2.5e-4), (46001, 3.0e-4), (46002, 1.99999999955e-4),
                                         (98001, 1.005e-4), (150001, 1.0e-6)])
def test_published_curve(t, expected):
    schedule = CosineAnnealingRestartCyclicLR(optimizer(2e-4), **LOL)
    assert schedule.rate(t - 1, 2e-4) == pytest.approx(expected, rel=1e-11)


def test_published_curve_as_the_logs_print_it():
    schedule = CosineAnnealingRestartCyclicLR(optimizer(2e-4), **LOL)
    assert schedule.rate(82999, 2e-4) == pytest.approx(1.44061e-4, abs=5e-10)
    # iteration 150000 is one step before the very end of the cycle
    assert schedule.rate(149999, 2e-4) == pytest.approx(1.0e-6, rel=1e-6)
    assert schedule.rate(149999, 2e-4) > schedule.rate(150000, 2e-4)


def test_stepping_gives_the_formula_for_every_group():
    options = {'periods': [3, 5], 'restart_weights': [1, 0.5], 'eta_mins': [0.3, 0.01]}
    model = Stub(CosineAnnealingRestartCyclicLR, 0.1, 0.2, **options)
    for t in range(1, 10):
        e = t - 1
        i = 0 if e <= 3 else 1  # the boundary belongs to the earlier cycle
        start, eta, weight, period = (0, 3)[i], options['eta_mins'][i], (1, 0.5)[i], (3, 5)[i]
        wanted = [eta + 0.5 * weight * (b - eta) * (1 + math.cos(math.pi * (e - start) / period)) for b in (0.1, 0.2)]
        assert model.rates(t) == pytest.approx(wanted, rel=1e-12)


def test_after_the_last_cycle_its_minimum_stays():
    schedule = CosineAnnealingRestartCyclicLR(optimizer(2e-4), **LOL)
    assert schedule.rate(200000, 2e-4) == schedule.rate(150000, 2e-4) == pytest.approx(1e-6, rel=1e-12)


def test_cosine_restart_has_one_minimum():
    curve = Stub(CosineAnnealingRestartLR, 1., periods=[4, 4], restart_weights=[1, 0.5], eta_min=0.1).curve(9)
    falls = [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    wanted = [0.1 + 0.9 * f for f in falls] + [0.1 + 0.45 * f for f in falls[1:]]
    assert curve == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize('schedule, options', [
    (CosineAnnealingRestartCyclicLR, LOL | {'restart_weights': [1]}),
    (CosineAnnealingRestartCyclicLR, LOL | {'eta_mins': [0]}),
    (CosineAnnealingRestartLR, {'periods': [4, 4], 'restart_weights': [1]}),
    (MultiStepRestartLR, {'milestones': [4], 'restarts': [0, 2], 'restart_weights': [1]}),
])
def test_lists_that_do_not_fit_are_refused(schedule, options):
    with pytest.raises(ValueError, match='restart'):
        schedule(optimizer(0.1), **options)


# ---------------------------------------------------------------- steps


def basicsr_multistep(milestones, gamma, restarts, weights, base, steps):
    """BasicSR's recurrence: each rate from the one before; a restart hides a milestone of the same iteration."""
    rate, out = base, []
    for e in range(steps):
        if e in restarts:
            rate = base * weights[restarts.index(e)]
        else:
            rate *= gamma**milestones.count(e)
        out.append(rate)
    return out


@pytest.mark.parametrize('milestones, gamma, restarts, weights', [
    ([3, 6], 0.5, [0], [1]),
    ([3, 3, 6, 6, 6], 0.5, [0], [1]),
    ([6, 3], 0.1, [0], [1]),
    ([2, 4, 8, 10], 0.5, [0, 6], [1, 0.25]),
    ([2, 6, 6, 8], 0.5, [0, 6, 9], [1, 2, 0.5]),
    ([1, 5], 0.5, [7], [0.5]),
    ([], 0.5, [0], [1]),
])
def test_multistep_against_the_recurrence(milestones, gamma, restarts, weights):
    options = {'milestones': milestones, 'gamma': gamma, 'restarts': restarts, 'restart_weights': weights}
    curve = Stub(MultiStepRestartLR, 0.1, **options).curve(14)
    assert curve == pytest.approx(basicsr_multistep(milestones, gamma, restarts, weights, 0.1, 14), rel=1e-12)


def test_multistep_default_is_one_tenth():
    assert Stub(MultiStepRestartLR, 1., milestones=[2]).curve(4) == pytest.approx([1, 1, 0.1, 0.1], rel=1e-12)


def test_linear_and_single_cosine():
    assert Stub(LinearLR, 0.4, total_iter=4).curve(6) == pytest.approx([0.4, 0.3, 0.2, 0.1, 0, 0], abs=1e-15)
    curve = Stub(TrueCosineAnnealingLR, 1., T_max=4, eta_min=0.2).curve(6)
    torch_opt = optimizer(1.)
    torch_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch_opt, 4, 0.2)
    wanted = []
    for _ in range(6):
        wanted.append(torch_opt.param_groups[0]['lr'])
        torch_schedule.step()
    assert curve == pytest.approx(wanted, rel=1e-9)


def test_warm_up_and_cosine_against_the_closed_form():
    base, warmup, total, eta = 2e-4, 4, 20, 1e-6
    wanted = [base * t / warmup for t in range(1, warmup + 1)]
    wanted += [eta + (base - eta) * math.cos(math.pi * k / (total - warmup) / 2)**2 for k in range(total - warmup)]
    model = Stub(LinearWarmupCosineAnnealingLR, base, 2 * base, warmup_iter=warmup, total_iter=total, eta_min=eta)
    curve = [model.rates(t) for t in range(1, total + 4)]
    assert [c[0] for c in curve[:total]] == pytest.approx(wanted, rel=1e-12)
    assert [c[0] for c in curve[total:]] == pytest.approx([eta] * 3, rel=1e-12)  # and it stays there
    assert curve[warmup - 1] == curve[warmup] == pytest.approx([base, 2 * base], rel=1e-12)
    assert Stub(LinearWarmupCosineAnnealingLR, 1., warmup_iter=0,
                total_iter=4).curve(5) == pytest.approx(Stub(TrueCosineAnnealingLR, 1., T_max=4).curve(5), abs=1e-15)


@pytest.mark.parametrize('schedule', [LinearWarmupCosineAnnealingLR, SteepCosineLR])
def test_a_warm_up_longer_than_the_training_is_refused(schedule):
    with pytest.raises(ValueError, match='does not fit into 20'):
        schedule(optimizer(0.1), total_iter=20, warmup_iter=20)


def masrnet_rate(epoch, base=1e-4, epochs=1200, warmup=10, steepness=10, acceleration=3):
    """The authors' rate of a whole epoch, counted from 1."""
    if epoch < warmup:
        return base * epoch / warmup
    c = math.cos(math.pi * acceleration * (epoch - warmup) / (epochs - warmup))
    return base * max(0.001, 0.5 * (1 + (1 if c > 0 else -1) * abs(c)**steepness))


def test_the_steep_cosine_is_that_of_masrnet_at_the_end_of_every_epoch():
    per_epoch = 121
    schedule = SteepCosineLR(optimizer(1e-4), total_iter=1200 * per_epoch, warmup_iter=10 * per_epoch)
    for epoch in range(1, 1201):
        assert schedule.rate(epoch * per_epoch - 1, 1e-4) == pytest.approx(masrnet_rate(epoch), rel=1e-9), epoch
    for epoch, rate in ((10, 1e-4), (210, 5e-5), (406, 1e-7), (620, 5e-5), (803, 1e-4), (1200, 1e-7)):
        assert schedule.rate(epoch * per_epoch - 1, 1e-4) == pytest.approx(rate, rel=5e-3)
    assert schedule.rate(1300 * per_epoch, 1e-4) == pytest.approx(1e-7, rel=1e-12)


def test_without_steepness_and_acceleration_it_is_the_ordinary_cosine():
    plain = {'steepness': 1, 'acceleration': 1, 'min_factor': 0}
    curve = Stub(SteepCosineLR, 0.2, 0.4, warmup_iter=4, total_iter=20, **plain)
    wanted = [t / 4 for t in range(1, 4)] + [0.5 * (1 + math.cos(math.pi * k / 16)) for k in range(17)]
    for t, factor in enumerate(wanted, start=1):
        assert curve.rates(t) == pytest.approx([0.2 * factor, 0.4 * factor], abs=1e-15)


def test_triangles_under_a_falling_height():
    total = 800  # ten iterations each
    curve = Stub(VibrateLR, 1., total_iter=total).curve(total)
    wanted = []
    for e in range(total):
        height = 1 - e / 300 if e < 300 else 0.2 if e < 500 else 0.1
        wanted.append(height * (1 - abs(e % 10 - 5) / 5))
    wanted[:5] = [max(w, 0.1) for w in wanted[:5]]
    assert curve == pytest.approx(wanted, abs=1e-12)
    with pytest.raises(ValueError, match='at least 160 iterations, not 100'):
        VibrateLR(optimizer(1.), total_iter=100)


# ---------------------------------------------------------------- warm-up and resuming

ALL = [(MultiStepRestartLR, {'milestones': [7, 9, 9], 'gamma': 0.5}),
       (CosineAnnealingRestartLR, {'periods': [8, 8], 'restart_weights': [1, 0.5], 'eta_min': 0.01}),
       (CosineAnnealingRestartCyclicLR, {'periods': [6, 10], 'restart_weights': [1, 1], 'eta_mins': [0.2, 0.01]}),
       (TrueCosineAnnealingLR, {'T_max': 16}), (LinearLR, {'total_iter': 16})]
SELF_WARMED = [(LinearWarmupCosineAnnealingLR, {'total_iter': 16, 'warmup_iter': 5, 'eta_min': 0.01}),
               (SteepCosineLR, {'total_iter': 16, 'warmup_iter': 5})]
each_schedule = pytest.mark.parametrize('schedule, options', ALL, ids=[s.__name__ for s, _ in ALL])


@each_schedule
def test_warm_up_leaves_no_trace(schedule, options):
    plain, warmed = (Stub(schedule, 0.1, **options).curve(16, warmup) for warmup in (-1, 5))
    assert warmed[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08], rel=1e-12)
    assert warmed[4:] == plain[4:]


def test_warm_up_ends_at_the_base_rate_of_every_group():
    # BasicSR's recurrence would stay at (w - 1) / w of the base for ever
    model = Stub(MultiStepRestartLR, 0.1, 0.3, milestones=[20])
    seen = [model.rates(t, warmup=4) for t in range(1, 11)]
    assert seen[0] == pytest.approx([0.025, 0.075])
    assert seen[3] == seen[9] == pytest.approx([0.1, 0.3], rel=1e-12)


@pytest.mark.parametrize('schedule, options', [*ALL, *SELF_WARMED], ids=lambda v: getattr(v, '__name__', ''))
@pytest.mark.parametrize('stop', [1, 3, 8])
def test_resumed_curve_is_the_uninterrupted_one(schedule, options, stop):
    warmup = -1 if (schedule, options) in SELF_WARMED else 5
    whole = Stub(schedule, 0.1, **options).curve(16, warmup)
    first = Stub(schedule, 0.1, **options)
    first.curve(stop, warmup)
    second = Stub(schedule, 0.1, **options)
    second.optimizers[0].load_state_dict(first.optimizers[0].state_dict())
    second.schedulers[0].load_state_dict(first.schedulers[0].state_dict())
    assert [second.rates(t, warmup)[0] for t in range(stop + 1, 17)] == whole[stop:]
