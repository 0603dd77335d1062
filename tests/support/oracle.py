"""The transformer written for clarity: the whole sequence at once, dense masks, complex rotations in float64.

It shares no code with the product. Sparse attention is one matrix of weights: 1 for a shot's own tokens, plus
1 for the first latent frame of every shot, so that a shot's own first frame counts 2; a weight w enters the
softmax as log w added to the score.
"""

import torch
import torch.nn.functional as F


class Frozen:
    """Latent frames that are given: `clean` and `noise` (16, F, h, w) are of the whole clip, `frames` are numbers.

    Before a forward at noise level σ they are (1 - s)·x0 + s·ε with s = κ·σ, and x0 at every other time.
    """

    def __init__(self, frames=(), clean=None, noise=None, kappa=1.0):
        self.frames, self.clean, self.noise, self.kappa = sorted(frames), clean, noise, kappa

    def seen(self, x, sigma):
        """Latents as a forward sees them."""
        return self.placed(x, lambda frame: (1 - self.kappa * sigma) * frame[0] + self.kappa * sigma * frame[1])

    def kept(self, x):
        """Latents as they are between forwards."""
        return self.placed(x, lambda frame: frame[0])

    def still(self, velocity):
        """A velocity, which frozen frames do not have."""
        return self.placed(velocity, lambda frame: torch.zeros_like(frame[0]))

    def placed(self, x, make):
        x = x.clone()
        for frame in self.frames:
            x[:, frame] = make((self.clean[:, frame], self.noise[:, frame]))
        return x


def sample(velocity, noise, steps, frozen):
    """Latents after each step of Euler's method. `velocity` of a step and what a forward sees at it."""
    x = frozen.kept(noise)
    for step in steps:
        x = x + frozen.still(velocity(step, frozen.seen(x, step.sigma))) * (step.sigma_next - step.sigma)
        yield x


def forward(weights, config, latents, timestep, context, layout, windows, *, sparse, own_frame_weight=2):
    """Velocity (16, F, h, w). `weights` by original names, `windows` per shot the text rows it may see or None."""
    x, temb, grid = embed(weights, config, latents, timestep)
    options = {"sparse": sparse, "own_frame_weight": own_frame_weight}
    x = through_blocks(weights, config, x, temb, grid, context, layout, windows, **options)
    return head(weights, config, x, temb, grid)


def embed(w, config, latents, timestep):
    """The stream that goes into the blocks (tokens, d), the embedded timestep (d,), and the grid of tokens."""
    x = F.conv3d(latents[None], w["patch_embedding.weight"], w["patch_embedding.bias"], stride=(1, 2, 2))
    t = timestep.to(latents.dtype).double()
    frequency = 10000.0 ** (-torch.arange(config.freq_dim // 2).double() / (config.freq_dim // 2))
    e = torch.cat([(t * frequency).cos(), (t * frequency).sin()]).to(latents.dtype)
    temb = linear(w, "time_embedding.2", F.silu(linear(w, "time_embedding.0", e)))
    return x[0].flatten(1).T, temb, x.shape[2:]


def through_blocks(w, config, x, temb, grid, context, layout, windows, *, sparse, own_frame_weight=2):
    """The stream that comes out of the blocks."""
    mod = linear(w, "time_projection.1", F.silu(temb)).view(6, -1)
    text = linear(w, "text_embedding.2", F.gelu(linear(w, "text_embedding.0", context), approximate="tanh"))

    shot = shot_of_token(layout)
    seen = self_attention_weights(layout, shot, own_frame_weight) if sparse else torch.ones(len(shot), len(shot))
    read = torch.ones(len(shot), len(text))
    if windows is not None:
        read = torch.zeros(len(shot), len(text))
        for number, rows in enumerate(windows):
            read[(shot == number).nonzero(), torch.tensor(rows)] = 1

    angles = rotation_angles(grid, config.head_dim)
    for index in range(config.num_layers):
        block = {n.removeprefix(f"blocks.{index}."): v for n, v in w.items() if n.startswith(f"blocks.{index}.")}
        shift1, scale1, gate1, shift2, scale2, gate2 = block["modulation"][0] + mod
        h = norm(x, config.eps) * (1 + scale1) + shift1
        x = x + gate1 * attend(block, "self_attn", config, h, h, seen, angles)
        h = norm(x, config.eps) * block["norm3.weight"] + block["norm3.bias"]
        x = x + attend(block, "cross_attn", config, h, text, read, None)
        h = norm(x, config.eps) * (1 + scale2) + shift2
        inner = F.gelu(linear(block, "ffn.0", h), approximate="tanh")
        x = x + gate2 * linear(block, "ffn.2", inner)
    return x


def head(w, config, x, temb, grid):
    """Velocity (16, F, h, w) from a stream."""
    shift, scale = w["head.modulation"][0] + temb
    out = linear(w, "head.head", norm(x, config.eps) * (1 + scale) + shift)
    out = out.view(*grid, 2, 2, config.out_dim).permute(5, 0, 1, 3, 2, 4)
    return out.reshape(config.out_dim, grid[0], 2 * grid[1], 2 * grid[2])


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(x, eps):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def shot_of_token(layout):
    frames = torch.tensor(layout.shot_of_latent_frame)
    return frames.repeat_interleave(layout.rows * layout.columns)


def self_attention_weights(layout, shot, own_frame_weight):
    """How often each token (column) is among the keys of each token (row)."""
    frame = torch.arange(len(shot)) // (layout.rows * layout.columns)
    representative = torch.isin(frame, torch.tensor(layout.starts))
    own = (shot[:, None] == shot[None, :]).float()
    times = own + representative[None, :].float()
    return times.clamp(max=own_frame_weight)


def attend(block, name, config, queries, keys, times, angles):
    q = rms(linear(block, f"{name}.q", queries), block[f"{name}.norm_q.weight"], config.eps)
    k = rms(linear(block, f"{name}.k", keys), block[f"{name}.norm_k.weight"], config.eps)
    v = linear(block, f"{name}.v", keys)
    q, k, v = (rows.unflatten(-1, (config.num_heads, -1)).transpose(0, 1) for rows in (q, k, v))
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    scores = q @ k.transpose(1, 2) / config.head_dim**0.5 + times.log().to(q.dtype)
    return linear(block, f"{name}.o", (scores.softmax(-1) @ v).transpose(0, 1).flatten(1))


def rms(x, weight, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def rotation_angles(grid, head_dim):
    """(tokens, D/2) float64, tokens in (frame, row, column) order."""
    spatial = 2 * (head_dim // 6)
    tables = []
    for axis, part in enumerate((head_dim - 2 * spatial, spatial, spatial)):
        table = torch.arange(grid[axis]).double()[:, None] * 10000.0 ** (-torch.arange(0, part, 2).double() / part)
        shape = [1, 1, 1, -1]
        shape[axis] = grid[axis]
        tables.append(table.view(shape).expand(*grid, -1))
    return torch.cat(tables, dim=-1).flatten(0, 2)


def rotate(x, angles):
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)
