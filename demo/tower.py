"""The Llama 4 vision tower and its projector, written for training on a CPU, and the way from a picture to tiles and ids.

The tower computes the same function as the reference: patches without bias, the class token last, learned positions, a norm
before and after the layers, two-dimensional RoPE (x first, counted from 1), pixel shuffle by 2, and an adapter with an
exact GELU after each of its two matrices. Tiles follow the Llama 4 image processor.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from net import rotate


class VisionConfig:
    image = 84
    patch = 14
    d_model = 192
    n_layer = 3
    n_head = 6
    d_adapter = 256
    d_text = 256
    rope_theta = 10000.0
    max_tiles = 16
    side = image // patch
    n_token = side * side // 4  # of a tile, in the text


class VisionLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.d_model

        def lin(i, o, std):
            m = nn.Linear(i, o)
            nn.init.normal_(m.weight, std=std)
            nn.init.zeros_(m.bias)
            return m

        self.c = c
        self.norm_in, self.norm_post = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v = (lin(d, d, d**-0.5) for _ in range(3))
        self.o = lin(d, d, 0.02)
        self.fc1, self.fc2 = lin(d, 4 * d, d**-0.5), lin(4 * d, d, 0.01)

    def forward(self, h, cos, sin, dtype):
        """h [B, T, D]"""
        c, (B, T, D) = self.c, h.shape

        def lin(m, x):
            return F.linear(x.to(dtype), m.weight.to(dtype), m.bias.to(dtype))

        x = self.norm_in(h)
        q, k, v = (lin(m, x).view(B, T, c.n_head, -1) for m in (self.q, self.k, self.v))
        q, k = rotate(q.float(), cos, sin).to(dtype), rotate(k.float(), cos, sin).to(dtype)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        p = (q @ k.transpose(2, 3)) * (D // c.n_head) ** -0.5
        h = h + lin(self.o, (p.softmax(-1) @ v).transpose(1, 2).reshape(B, T, D)).float()
        return h + lin(self.fc2, F.gelu(lin(self.fc1, self.norm_post(h)))).float()


class Tower(nn.Module):
    def __init__(self, c=VisionConfig):
        super().__init__()
        d, a = c.d_model, c.d_adapter
        self.c = c
        self.patch = nn.Parameter(torch.randn(d, 3 * c.patch**2) * 0.04)
        self.cls = nn.Parameter(torch.randn(d) * 0.1)
        self.pos = nn.Parameter(torch.randn(c.side**2 + 1, d) * 0.1)
        self.norm_pre, self.norm_post = nn.LayerNorm(d), nn.LayerNorm(d)
        self.layers = nn.ModuleList(VisionLayer(c) for _ in range(c.n_layer))
        self.fc1 = nn.Parameter(torch.randn(a, 4 * d) * 2 * (4 * d) ** -0.5)
        self.fc2 = nn.Parameter(torch.randn(a, a) * 2 * a**-0.5)
        self.out = nn.Parameter(torch.randn(c.d_text, a) * a**-0.5)
        n = d // c.n_head // 2
        f = 1.0 / (c.rope_theta ** (torch.arange(0, n, 2).float() / n))
        t = torch.arange(c.side**2)
        ang = torch.cat([(t % c.side + 1)[:, None] * f, (t // c.side + 1)[:, None] * f], -1)
        ang = torch.cat([ang, torch.zeros(1, n)])  # the class token
        self.register_buffer("cos", ang.cos()[:, None], persistent=False)
        self.register_buffer("sin", ang.sin()[:, None], persistent=False)

    def forward(self, tiles, dtype):
        """tiles [n, 3, image, image] in -1..1 -> [n, n_token, d_text]"""
        c, n, s = self.c, tiles.shape[0], self.c.side
        x = tiles.view(n, 3, s, c.patch, s, c.patch).permute(0, 2, 4, 1, 3, 5).reshape(n, s * s, -1)
        h = F.linear(x.to(dtype), self.patch.to(dtype)).float()
        h = torch.cat([h, self.cls.expand(n, 1, -1)], 1) + self.pos
        h = self.norm_pre(h)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin, dtype)
        h = self.norm_post(h)[:, :-1]
        h = h.view(n, s // 2, 2, s // 2, 2, -1).transpose(2, 3).reshape(n, c.n_token, -1)
        h = F.gelu(F.linear(h.to(dtype), self.fc1.to(dtype)))
        h = F.gelu(F.linear(h, self.fc2.to(dtype)))
        return F.linear(h, self.out.to(dtype)).float()


# ---- from a picture to tiles -------------------------------------------------------------------------------------------

LEVELS = ((torch.arange(256, dtype=torch.bfloat16) * (1 / 255)) - 0.5) / 0.5  # the processor rounds to bfloat16


def best_canvas(h, w, c=VisionConfig):
    """-> (rows, columns) of tiles: the smallest enlargement, else the least reduction; among equals the smallest area."""
    grid = torch.tensor([(a, b) for a in range(1, c.max_tiles + 1) for b in range(1, c.max_tiles // a + 1)])
    size = grid * c.image
    s = torch.minimum(size[:, 1] / w, size[:, 0] / h)  # float32, as the processor has it
    want = s[s >= 1].min() if (s >= 1).any() else s.max()
    return min(((a * b, a, b) for (a, b), x in zip(grid.tolist(), s.tolist()) if x == want.item()))[1:]


def resized(x, h, w):
    if x.shape[1:] == (h, w):
        return x
    return F.interpolate(x[None], size=(h, w), mode="bilinear", antialias=True)[0]


def to_tiles(img, c=VisionConfig):
    """uint8 [h, w, 3] -> uint8 tiles [n, 3, image, image], (rows, columns). The whole picture comes last if n > 1.

    The sizes of the demo's own pictures are exact here; for any size, docs/vision.md says what is rounded how."""
    x = torch.from_numpy(img).permute(2, 0, 1).contiguous()
    h, w = x.shape[1:]
    rows, cols = best_canvas(h, w, c)
    th, tw = min(max(h, c.image), rows * c.image), min(max(w, c.image), cols * c.image)
    sh, sw = th / h, tw / w
    if sw < sh:
        nh, nw = max(1, min(math.floor(h * sw), th)), tw
    else:
        nh, nw = th, max(1, min(math.floor(w * sh), tw))
    y = F.pad(resized(x, nh, nw), (0, cols * c.image - nw, 0, rows * c.image - nh))
    t = y.view(3, rows, c.image, cols, c.image).permute(1, 3, 0, 2, 4).reshape(-1, 3, c.image, c.image)
    if rows * cols > 1:
        t = torch.cat([t, resized(x, c.image, c.image)[None]])
    return t, (rows, cols)


def block(ids, grid, c=VisionConfig):
    """The token ids that stand for a picture of that grid. ids: the ids of the special tokens by name."""
    rows, cols = grid
    p = [ids["patch"]] * c.n_token
    out = [ids["image_start"]]
    if rows * cols > 1:
        for _ in range(rows):
            out += (p + [ids["tile_x_separator"]]) * (cols - 1) + p + [ids["tile_y_separator"]]
    return out + [ids["image"]] + p + [ids["image_end"]]
