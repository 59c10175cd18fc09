"""The Kalman filter against textbooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurobrick_model.baselines import kalman
from neurobrick_model.baselines.kalman import Kalman, recursion, regressed
from tests.support.model.baselines import QUICK, Array, decoded, poisson
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session


class System:
    """A rotating, decaying state of 2 numbers, observed by 6 noisy units, and one course of it."""

    def __init__(self, seed: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        self.transition = 0.97 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
        self.noise = np.array([[0.05, 0.01], [0.01, 0.04]])
        self.observed = rng.normal(size=(6, 2))
        mixing = rng.normal(size=(6, 6))
        self.spread = mixing @ mixing.T + 3 * np.eye(6)
        self.prior = np.array([[0.9, 0.1], [0.1, 0.7]])
        rng = np.random.default_rng(seed)
        self.states = rng.multivariate_normal([0, 0], self.noise, steps)
        self.states[0] = rng.multivariate_normal([0, 0], self.prior)
        for t in range(1, steps):
            self.states[t] += self.transition @ self.states[t - 1]
        error = rng.multivariate_normal(np.zeros(6), self.spread, steps)
        self.counts = self.states @ self.observed.T + error

    def textbook(self) -> Array:
        """Kalman 1960: predict, gain, update."""
        mean, covariance, states = np.zeros(2), self.prior, []
        for t, seen in enumerate(self.counts):
            if t:
                mean = self.transition @ mean
                covariance = self.transition @ covariance @ self.transition.T + self.noise
            innovation = self.observed @ covariance @ self.observed.T + self.spread
            gain = covariance @ self.observed.T @ np.linalg.inv(innovation)
            mean = mean + gain @ (seen - self.observed @ mean)
            covariance = (np.eye(2) - gain @ self.observed) @ covariance
            states.append(mean)
        return np.array(states)


@pytest.mark.parametrize("steps", [1, 2, 9, 700])
def test_the_kalman_filter_is_the_textbooks(steps: int) -> None:
    system = System(0, steps)
    projection = system.observed.T @ np.linalg.inv(system.spread)
    parts = (np.zeros(2), system.prior, system.transition, system.noise, np.zeros(6))
    model = Kalman(*map(torch.from_numpy, (*parts, projection, projection @ system.observed)))
    states = model.filter(torch.from_numpy(system.counts)).numpy()
    np.testing.assert_allclose(states, system.textbook(), rtol=1e-9, atol=1e-10)


def test_the_kalman_filter_is_that_of_pykalman() -> None:
    """Both get the matrices that are fitted to the same states and counts."""
    pykalman = pytest.importorskip("pykalman")
    seen, unseen = System(1, 2_000), System(2, 300)
    states, counts = torch.from_numpy(seen.states), torch.from_numpy(seen.counts)
    model = regressed(states, counts, torch.ones(2_000, dtype=torch.float64), 1e-3)
    mean, offset = seen.states.mean(0), seen.counts.mean(0)
    x, z = seen.states - mean, seen.counts - offset
    squares = x.T @ x
    squares += 1e-3 * np.diag(np.diag(squares))  # the penalty is in variances of x
    observed = np.linalg.solve(squares, x.T @ z).T
    residual = z - x @ observed.T
    spread = residual.T @ residual / len(z)
    spread += 1e-3 * spread.diagonal().mean() * np.eye(6)
    reference = pykalman.KalmanFilter(
        transition_matrices=model.transition.numpy(),
        observation_matrices=observed,
        transition_covariance=model.noise.numpy(),
        observation_covariance=spread,
        initial_state_mean=np.zeros(2),
        initial_state_covariance=model.prior.numpy(),
    )
    expected = reference.filter(unseen.counts - offset)[0] + mean
    filtered = model.filter(torch.from_numpy(unseen.counts))
    np.testing.assert_allclose(filtered, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 101])
def test_doubling_is_the_recursion(steps: int) -> None:
    rng = np.random.default_rng(steps)
    step, drive = 0.5 * rng.normal(size=(3, 3)), rng.normal(size=(steps, 3))
    states = recursion(torch.from_numpy(step), torch.from_numpy(drive)).numpy()
    x = np.zeros(3)
    for t in range(steps):
        x = step @ x + drive[t]
        np.testing.assert_allclose(states[t], x, rtol=1e-9, atol=1e-9)


def test_the_kalman_filter_learns_a_linear_system_and_its_best_states() -> None:
    seen, unseen = System(1, 20_000), System(2, 5_000)
    states, counts = torch.from_numpy(seen.states), torch.from_numpy(seen.counts)
    model = regressed(states, counts, torch.ones(20_000, dtype=torch.float64), 1e-6)
    np.testing.assert_allclose(model.transition.numpy(), seen.transition, atol=0.02)
    np.testing.assert_allclose(model.noise.numpy(), seen.noise, atol=0.005)

    def error(states: Array) -> float:
        return float(np.mean((states - unseen.states) ** 2))

    filtered = error(model.filter(torch.from_numpy(unseen.counts)).numpy())
    memoryless = np.linalg.lstsq(seen.counts, seen.states, rcond=None)[0]
    assert filtered < 1.03 * error(unseen.textbook())
    assert filtered < 0.5 * error(unseen.counts @ memoryless)


@pytest.mark.slow
def test_the_kalman_filter_uses_the_dynamics_of_behavior_and_ridge_does_not() -> None:
    """A slow oscillation with few spikes: between them, the filter continues the oscillation."""
    session = oscillation()
    settings = QUICK.model_copy(update={"which": ("ridge", "kalman"), "bins": (0.1,), "lags": 1})
    decoders = decoded(session, settings)
    assert decoders["kalman"].r2 > decoders["ridge"].r2 + 0.2


def test_spikes_may_precede_the_behavior_that_they_encode(
    dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = dataset["sim/a"]
    times = session.spike_times - 0.4
    early = session.with_(spike_times=times[times > 0], spike_units=session.spike_units[times > 0])
    settings = QUICK.model_copy(update={"which": ("kalman",)})
    delayed = decoded(early, settings)["kalman"].r2
    monkeypatch.setattr(kalman, "DELAYS", (0,))
    assert delayed > decoded(early, settings)["kalman"].r2 + 0.1


def oscillation() -> FakeSession:
    """2 units of 6 Hz each, tuned to a velocity that oscillates every 2 s."""
    rng = np.random.default_rng(5)
    session = fake_session("sim/a", 0, seconds=120.0)
    phase = np.pi * session.timestamps
    velocity = 0.1 * np.stack([np.cos(phase), np.sin(phase)], 1)
    times, units = poisson(6 + 50 * velocity, 0.01, rng)
    return session.with_(values=velocity, spike_times=times, spike_units=units, n_units=2)
