"""Stage ``distil``: one set of weights that restores in all steps, in 4 and in 1. See `DistilStage`.

The sampler is stochastic, so the best a network can say at the first step is the mean of all pictures that its noise
may lead to: a blur. Followed without fresh noise, though (DDIM, Song et al. 2021), the same network leads each z_T to
one sharp latent, and a student can learn that function of z_T: the deterministic distillation of SinSR (Wang et al.
2024), for a residual shift. Here the student learns it at the steps that few-step sampling keeps, from the states that
its own few-step sampling meets there, so that it also learns to mend what it does wrong (multistep consistency, Heek et
al. 2024; on-policy states against exposure bias); it is shown the truth too, by the losses on decoded images, because
a teacher's latent is only as good as the teacher. All other steps keep the ordinary loss: all steps stay good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from textsr.errors import InputError
from textsr.graphs import Model
from textsr.schedule import ResidualShiftSchedule
from train.decoded import DecodedStage
from train.diffusion import Corrupted, part
from train.harness import TrainConfig, place
from train.start import load_whole


def taught_steps(schedule: ResidualShiftSchedule, few: Sequence[int] = TrainConfig.few_steps) -> tuple[int, ...]:
    """The trained steps t that sampling in ``few`` steps keeps, in falling order. Not t = 0, whose trajectory is one
    estimate long: the ordinary loss teaches that."""
    return tuple(sorted({t for count in few for t in schedule.kept(count)} - {0}, reverse=True))


def starts(count: int, steps: Sequence[int]) -> list[int]:
    """The step of each of ``count`` taught lines, falling: half at the first of ``steps``, on which one-step sampling
    rests alone and all others rest too, the rest evenly on the others."""
    others = steps[1:]
    first = count if not others else -(-count // 2)
    return sorted([steps[0]] * first + [others[i % len(others)] for i in range(count - first)], reverse=True)


def deterministic(schedule: ResidualShiftSchedule, t: int, s: int) -> tuple[float, float, float]:
    """Factors (k, m, j) of z_s = k z0_hat + m z_t + j z_y, the noise in z_t kept: m = sqrt(eta_s / eta_t),
    j = eta_s - sqrt(eta_s eta_t), k = 1 - j - m (Wang et al. 2024). s = -1 has eta 0: it gives z0_hat."""
    eta_t, eta_s = float(schedule.etas[t]), 0.0 if s < 0 else float(schedule.etas[s])
    m, j = (eta_s / eta_t) ** 0.5, eta_s - (eta_s * eta_t) ** 0.5
    return 1 - j - m, m, j


@torch.no_grad()
def endpoints(schedule: ResidualShiftSchedule, predict: Callable[[Corrupted], Tensor], now: Corrupted) -> Tensor:
    """Where the lines' z_t (B,C,h,w) lead when followed without fresh noise through every step below their own.

    :param predict: z0_hat of a batch at its steps.
    :param now: lines in falling order of t, so that those under way are always the first.
    """
    z, steps = now.z_t, now.t.tolist()
    for t in range(max(steps), -1, -1):
        active = slice(sum(step >= t for step in steps))
        under_way = part(replace(now, z_t=z, t=torch.full_like(now.t, t)), active)
        k, m, j = deterministic(schedule, t, t - 1)
        z = torch.cat([k * predict(under_way) + m * z[active] + j * now.z_y[active], z[active.stop :]])
    return z


class DistilStage(DecodedStage):
    """Teaches a model what itself, as it was in ``cfg.checkpoint``, reaches in all its steps.

    Without ``cfg.checkpoint`` the teacher is the model as given; a resumed run needs it named. A teacher whose many
    steps make a line harder to read is worth nothing: without ``cfg.teacher`` the few-step states learn from the truth.
    """

    def __init__(self, full: Model, cfg: TrainConfig, device: torch.device, *, decode_lines: int | None = None) -> None:
        """Raises InputError for a resumed run without its teacher."""
        if cfg.teacher and cfg.resume is not None and cfg.checkpoint is None:
            raise InputError("--resume of --stage distil needs its teacher: give --checkpoint, as the run had it")
        super().__init__(full, cfg, device, decode_lines=decode_lines)
        self.steps = taught_steps(self.schedule, cfg.few_steps)
        self.teacher = self._teacher(full, cfg) if cfg.teacher else None

    def _teacher(self, full: Model, cfg: TrainConfig) -> Model:
        teacher = Model(full.preset)
        if cfg.checkpoint is None:
            teacher.load_state_dict(full.state_dict())
        else:
            load_whole(teacher, cfg.checkpoint)
        teacher.vqgan = full.vqgan  # frozen in both: one is enough
        return place(teacher, self.device).eval().requires_grad_(False)

    @contextmanager
    def _as(self, teacher: Model) -> Iterator[None]:
        """Predictions inside are the teacher's. The autoencoder is the same, so batches being made do not notice."""
        student, self.full = self.full, teacher
        try:
            yield
        finally:
            self.full = student

    def loss(self, now: Corrupted, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The ordinary losses on one part of the lines; on the other the distance to the teacher's latent, and the
        losses on its decoded images against the truth. ``taught`` is that distance, ``taught_l1`` and so on those."""
        if self.teacher is None:  # all lines have the same losses: `_on_own_estimate` puts some at the few-step states
            return super().loss(now, progress)
        count = self._taught(now)
        ordinary, figures = super().loss(part(now, slice(count, None)), progress)
        if count == 0:
            return ordinary, figures
        state = self._few_step_state(part(now, slice(count)))
        with self._as(self.teacher):
            target = endpoints(self.schedule, self._predict, state)
        z0_hat = self._predict(state)
        taught = (z0_hat - target).abs().mean()
        decoded, parts = self._on_decoded(z0_hat, state)
        figures |= {"taught": taught.item(), **{f"taught_{name}": value for name, value in parts.items()}}
        return ordinary + taught + decoded, figures

    def _taught(self, now: Corrupted) -> int:
        """How many of the lines are taught. With a teacher at least one is not: it has the ordinary losses."""
        count = round(self.cfg.taught_share * len(now.z_t))
        return count if self.teacher is None else min(count, len(now.z_t) - 1)

    @torch.no_grad()
    def _on_own_estimate(self, now: Corrupted) -> Corrupted:
        """Without a teacher the taught lines, the last, get few-step states here; the others' are the parent's."""
        others = len(now.z_t) if self.teacher is not None else len(now.z_t) - self._taught(now)
        if others == len(now.z_t):
            return super()._on_own_estimate(now)
        states = [self._few_step_state(part(now, slice(others, None)))]
        if others:  # first, where the text diffusion looks: it is to see all times
            states.insert(0, super()._on_own_estimate(part(now, slice(others))))
        z_t, t = torch.cat([state.z_t for state in states]), torch.cat([state.t for state in states])
        return replace(now, z_t=z_t, t=t)

    @torch.no_grad()
    def _few_step_state(self, now: Corrupted) -> Corrupted:
        """The lines at `starts`, with the z_t that few-step sampling by the student itself would have there.

        At the first step that is the prior; later it is the student's first estimate, noised anew to the step.
        """
        steps = starts(len(now.z_t), self.steps)
        last = len(self.schedule) - 1
        noise = torch.randn(2, *now.z_y.shape, device=self.device)
        prior = replace(now, z_t=now.z_y + self.schedule.prior_std * noise[0], t=torch.full_like(now.t, last))
        if steps[-1] == last:
            return prior
        t = torch.tensor(steps, device=self.device)
        eta = self.etas[t][:, None, None, None]
        own = (1 - eta) * self._predict(prior) + eta * now.z_y + self.schedule.kappa * eta.sqrt() * noise[1]
        return replace(now, z_t=torch.where(t[:, None, None, None] == last, prior.z_t, own), t=t)

    def _latent_loss(self, z0_hat: Tensor, now: Corrupted) -> Tensor:
        """As in the parent, but not at the steps that the teacher teaches: there the mean would pull to the blur."""
        if self.teacher is None:
            return super()._latent_loss(z0_hat, now)
        taught = torch.isin(now.t, torch.tensor(self.steps, device=now.t.device))
        each = (z0_hat - now.z_0).abs().mean((1, 2, 3)) * ~taught
        return each.sum() / (~taught).sum().clamp(min=1)
