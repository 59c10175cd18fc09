"""How the units of one subject's motor cortex differ from those of another's.

Tuning has the same form in all subjects (`population`), so a decoder of one subject can be used for
another. The distributions of its parameters differ. How strongly units follow velocity and position
differs between cells (Paninski et al. 2004, J. Neurophysiol. 91:515; Wang et al. 2007, J.
Neurophysiol. 97:4258), and so between arrays, which reach a hundred or two of them. Preferred
directions crowd at the two ends of an axis (Scott et al. 2001, Nature 413:161). One array had 67 %
of its units still after 15 days (Vaidya et al. 2014, Conf. Proc. IEEE EMBS 2014:4872); subjects
here keep 55 to 80 % from one session to the next. The spreads between subjects are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurobrick.simulate.kinematics import FloatArray


@dataclass(frozen=True, kw_only=True)
class Subject:
    """How one subject's units are distributed. The defaults are the first subject's."""

    rate: float = 8.0  # Hz at rest, the median of units that are not silent
    silent: float = 0.12  # share of units that hardly fire
    # Typical changes of the log rate with each of `population.features`.
    velocity: float = 0.7
    position: float = 0.3
    plan: float = 0.3
    speed: float = 0.2
    crowding: float = 0.0  # of preferred directions at the two ends of `axis`; 0 to 1
    axis: float = 0.0  # rad
    lag: float = 0.08  # s by which units lead the hand, on average
    drift: float = 0.07  # SD of a step of the gain
    staying: float = 0.7  # probability that a unit is recorded again in the next session

    def directions(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Preferred directions (n,) in rad, of density (1 + crowding cos 2(x - axis)) / 2 pi."""
        angle = np.linspace(0, 2 * np.pi, 721)
        crowd = np.sin(2 * (angle - self.axis)) + np.sin(2 * self.axis)
        below = angle + 0.5 * self.crowding * crowd
        return np.interp(rng.uniform(0, 2 * np.pi, n), below, angle)


def another(rng: np.random.Generator) -> Subject:
    """A subject that differs from the first in everything."""
    first = Subject()
    rate, velocity, position, plan, drift = np.exp(rng.normal(0.0, (0.3, 0.2, 0.4, 0.4, 0.4)))
    return Subject(
        rate=first.rate * rate,
        silent=rng.uniform(0.05, 0.2),
        velocity=first.velocity * velocity,
        position=first.position * position,
        plan=first.plan * plan,
        speed=first.speed + rng.normal(0.0, 0.15),
        crowding=rng.uniform(0.0, 0.8),
        axis=rng.uniform(0.0, np.pi),
        lag=float(np.clip(first.lag + rng.normal(0.0, 0.025), 0.03, 0.13)),
        drift=first.drift * drift,
        staying=rng.uniform(0.55, 0.8),
    )
