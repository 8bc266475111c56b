"""Muon for the weight matrices of the layers, Adam for the rest, in units that any worker may take.

All state lies in shared memory. One unit is a layer, the embedding, or the head with the last norm.
"""

import torch

ADAM_RATES = {"embed": 2e-2, "head": 2e-3, "router": 1e-3}
ADAM_RATE = 2e-3
MATRICES = ("q", "k", "v", "o", "s_gate", "s_up", "s_down", "gate_up", "down")


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration towards the nearest orthogonal matrices. g [n, r, c] with r <= c."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).bfloat16() + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.float()


class Optimiser:
    def __init__(self, net, momentum=0.95, decay=0.05, betas=(0.9, 0.97)):
        self.momentum, self.decay, self.betas = momentum, decay, betas
        self.params = dict(net.named_parameters())
        self.state = {}
        units = {}
        for name, p in self.params.items():
            units.setdefault(self.unit_of(name), []).append(name)
            n = 1 if self.is_muon(name, p) else 2
            self.state[name] = [torch.zeros_like(p).detach().share_memory_() for _ in range(n)]
            self.state[name].append(p.detach().clone().share_memory_())  # running mean of the weights
        self.units = [units[k] for k in sorted(units)]

    def unit_of(self, name):
        return name.split(".")[1] if name.startswith("layers") else "embed" if name == "embed" else "head"

    def is_muon(self, name, p):
        return name.split(".")[-1] in MATRICES

    def muon_rate(self, name):
        return 1.0

    def adam_rate(self, name):
        return ADAM_RATES.get(name.split(".")[-1], ADAM_RATE)

    @torch.no_grad()
    def update(self, unit, grads, lr_muon, f, t, keep):
        """One unit's step. grads: per worker, a dict by name. f: share of the Adam rates. t: steps so far, from 1."""
        for name in self.units[unit]:
            p, leaf, st = self.params[name], name.split(".")[-1], self.state[name]
            g = grads[0][name].clone()
            for other in grads[1:]:
                g += other[name]
            if self.is_muon(name, p):
                st[0].lerp_(g, 1 - self.momentum)
                u = g.lerp_(st[0], self.momentum)
                u = torch.cat(u.chunk(2, -1)) if leaf == "gate_up" else u if leaf == "down" else u[None]
                tall = u.shape[1] > u.shape[2]
                u = orthogonalise(u.transpose(1, 2)).transpose(1, 2) if tall else orthogonalise(u)
                u = torch.cat(u.chunk(2, 0), -1) if leaf == "gate_up" else u.view_as(p)
                lr = lr_muon * self.muon_rate(name)
                p.mul_(1 - lr * self.decay).add_(u, alpha=-lr)
            else:
                m, v = st[0], st[1]
                m.lerp_(g, 1 - self.betas[0])
                v.lerp_(g * g, 1 - self.betas[1])
                lr = f * self.adam_rate(name)
                den = (v / (1 - self.betas[1] ** t)).sqrt_().add_(1e-10)
                p.addcdiv_(m, den, value=-lr / (1 - self.betas[0] ** t))
            st[-1].lerp_(p, 1 - keep)
