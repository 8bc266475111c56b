"""The Llama 4 text decoder, written for training on a CPU.

It computes the same function as the reference (interleaved RoPE, weightless qk norm after it, every fourth layer without
positions and with temperature tuning, attention on a fixed grid of chunks, top-1 experts whose INPUT is scaled by the
sigmoid of the router's logit, and a shared expert), but runs each expert only on the tokens routed to it and each local
layer only inside its chunk. Weights are kept in float32 and cast to `dtype` for the matrix products.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Config:
    vocab = 4096
    d_model = 256
    n_layer = 8
    n_head = 4
    n_kv_head = 2
    d_head = 64
    n_expert = 8
    d_ff = 256
    chunk = 128
    nope_period = 4
    rope_theta = 10000.0
    rope_factor, rope_low, rope_high, rope_old = 4.0, 1.0, 4.0, 512
    floor_scale, attn_scale = 256.0, 0.1
    eps = 1e-5
    max_pos = 2048


def rope_freqs(c):
    """Inverse frequencies of the pairs, with llama3 scaling."""
    inv = 1.0 / (c.rope_theta ** (torch.arange(0, c.d_head, 2, dtype=torch.float32) / c.d_head))
    wave = 2 * math.pi / inv
    s = (c.rope_old / wave - c.rope_low) / (c.rope_high - c.rope_low)
    mid = (1 - s) * inv / c.rope_factor + s * inv
    out = torch.where(wave > c.rope_old / c.rope_low, inv / c.rope_factor, mid)
    return torch.where(wave < c.rope_old / c.rope_high, inv, out)


def rotate(x, cos, sin):
    """x [..., T, n, d], pairs are adjacent; cos, sin [T, 1, d/2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def unit_rms(x, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        d, f = c.d_model, c.d_ff

        def mat(*shape, std=0.04):
            return nn.Parameter(torch.randn(*shape) * std)

        self.c = c
        self.rope = (index + 1) % c.nope_period != 0
        self.norm_in = nn.Parameter(torch.ones(d))
        self.norm_post = nn.Parameter(torch.ones(d))
        self.q = mat(c.n_head * c.d_head, d)
        self.k = mat(c.n_kv_head * c.d_head, d)
        self.v = mat(c.n_kv_head * c.d_head, d)
        self.o = mat(d, c.n_head * c.d_head, std=0.01)
        self.router = mat(c.n_expert, d, std=0.02)
        self.gate_up = mat(c.n_expert, d, 2 * f)  # input-major, gate first, as in the checkpoint
        self.down = mat(c.n_expert, f, d, std=0.01)
        self.s_gate = mat(f, d)
        self.s_up = mat(f, d)
        self.s_down = mat(d, f, std=0.01)

    def attend(self, x, cos, sin, scale, mask, dtype):
        """x [B, T, D]. mask: for a RoPE layer per chunk, else per row; True where attention is allowed."""
        c, (B, T, _) = self.c, x.shape
        x = x.to(dtype)
        q = F.linear(x, self.q.to(dtype)).view(B, T, c.n_head, c.d_head).float()
        k = F.linear(x, self.k.to(dtype)).view(B, T, c.n_kv_head, c.d_head).float()
        v = F.linear(x, self.v.to(dtype)).view(B, T, c.n_kv_head, c.d_head)
        if self.rope:
            q, k = unit_rms(rotate(q, cos, sin), c.eps), unit_rms(rotate(k, cos, sin), c.eps)
        else:
            q = q * scale
        n = mask.shape[0]  # B, or B * number of chunks
        q, k, v = (t.to(dtype).reshape(n, -1, t.shape[2], c.d_head).transpose(1, 2) for t in (q, k, v))
        rep = c.n_head // c.n_kv_head
        k, v = k.repeat_interleave(rep, 1), v.repeat_interleave(rep, 1)
        p = (
            q @ k.transpose(2, 3)
        ) * c.d_head**-0.5  # written out: faster here than the fused call with a mask
        y = p.masked_fill(~mask, -1e4).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(B, T, -1)
        return F.linear(y, self.o.to(dtype)).float()

    def mix(self, x, dtype):
        """x [N, D] -> [N, D], and the load-balancing loss."""
        c = self.c
        logits = F.linear(x, self.router)
        top, idx = logits.max(-1)
        order = torch.argsort(idx, stable=True)
        count = torch.bincount(idx, minlength=c.n_expert)
        u = (x * torch.sigmoid(top)[:, None]).to(dtype)[order]
        parts = u.split(count.tolist())
        gu_w, down_w = self.gate_up.to(dtype), self.down.to(dtype)
        gu = torch.cat([p @ gu_w[e] for e, p in enumerate(parts)])
        g, up = gu.chunk(2, -1)
        h = (F.silu(g) * up).split(count.tolist())
        y = torch.cat([p @ down_w[e] for e, p in enumerate(h)])
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        xb = x.to(dtype)
        s = F.silu(F.linear(xb, self.s_gate.to(dtype))) * F.linear(xb, self.s_up.to(dtype))
        out = F.linear(s, self.s_down.to(dtype)) + y[back]
        share = count.float() / len(idx)
        aux = c.n_expert * (share * logits.softmax(-1).mean(0)).sum()
        return out.float(), aux, share

    def forward(self, h, cos, sin, scale, mask, dtype):
        c = self.c
        h = h + self.attend(unit_rms(h, c.eps) * self.norm_in, cos, sin, scale, mask, dtype)
        y, aux, share = self.mix((unit_rms(h, c.eps) * self.norm_post).flatten(0, 1), dtype)
        return h + y.view_as(h), aux, share


class Net(nn.Module):
    def __init__(self, c=Config):
        super().__init__()
        self.c = c
        self.embed = nn.Parameter(torch.randn(c.vocab, c.d_model))
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c.n_layer))
        self.norm = nn.Parameter(torch.ones(c.d_model))
        self.head = nn.Parameter(torch.randn(c.vocab, c.d_model) * 0.02)
        self.register_buffer("freqs", rope_freqs(c), persistent=False)

    def hidden(self, ids, doc, dtype, h=None):
        """ids, doc [B, T]; tokens see only tokens of the same doc. T is a multiple of the chunk, or below it.
        h: the embeddings, where they are not just those of the ids."""
        c, (B, T) = self.c, ids.shape
        pos = torch.arange(T)
        ang = pos.float()[:, None] * self.freqs
        cos, sin = ang.cos()[:, None], ang.sin()[:, None]
        scale = (torch.log1p(torch.floor((pos.float() + 1) / c.floor_scale)) * c.attn_scale + 1)[
            :, None, None
        ]
        glob = ((doc[:, :, None] == doc[:, None, :]) & (pos[:, None] >= pos[None]))[:, None]
        w = min(T, c.chunk)
        dl = doc.view(-1, w)
        loc = ((dl[:, :, None] == dl[:, None, :]) & (pos[:w, None] >= pos[None, :w]))[:, None]
        h = F.embedding(ids, self.embed) if h is None else h
        aux, shares = 0.0, []
        for layer in self.layers:
            h, a, s = layer(h, cos, sin, scale, loc if layer.rope else glob, dtype)
            aux = aux + a
            shares.append(s)
        return unit_rms(h, c.eps) * self.norm, aux / c.n_layer, torch.stack(shares)

    def logits(self, h, dtype):
        return F.linear(h.to(dtype), self.head.to(dtype)).float()

    def loss(self, ids, doc, target, weight, total, dtype):
        """Sum of the weighted cross entropy over `total`; the head runs on the positions of weight above zero alone."""
        h, aux, shares = self.hidden(ids, doc, dtype)
        keep = (weight > 0).flatten().nonzero()[:, 0]
        lg = self.logits(h.flatten(0, 1)[keep], dtype)
        ce = F.cross_entropy(lg, target.flatten()[keep], reduction="none")
        return (ce * weight.flatten()[keep]).sum() / total, aux, shares
