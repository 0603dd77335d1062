"""One clip computed by several ranks, each a share of its tokens, and the place where these meet."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from threading import Condition

import pytest
import torch
import torch.nn.functional as F
from guard import HANGS
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes
from small_model import TEXT_DIM, clips, config_of, random_model, window_sets
from test_model_against_oracle import ROWS, TIMESTEP, error, fast, inputs, slow
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.model.clip import Chunks, Clip, Share, common, portions
from holo_lite.model.compute import Compute, here
from holo_lite.model.equations import gated_add_, gelu_, layer_norm, modulate
from holo_lite.model.key_values import KeyValues
from holo_lite.model.layers import Modulation, SelfAttentionVisit, TextRows
from holo_lite.model.memory import working_set
from holo_lite.model.patches import read_patches, write_patches
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout

NOT_YET = float("nan")  # what has not come: whoever reads it too early finds nothing but this
PATIENCE = HANGS  # seconds until a rank that waits for one that failed gives up


class Table:
    """Where ranks of one process lay down the keys and values they have made, and take the others'."""

    def __init__(self, ranks):
        self.ranks, self.laid, self.room = ranks, {}, Condition()
        self.failed, self.numbers = False, 0

    def give(self, place, rows, buffer):
        """Lay down some rows."""
        keys, values = (each[rows].clone() for each in (buffer.keys, buffer.values))
        with self.room:
            self.laid[place] = (keys, values)
            self.numbers += 2 * keys.numel()
            self.room.notify_all()

    def has(self, place, rows, buffer):
        """Whether what was laid down is still in its rows."""
        keys, values = self.laid[place]
        return torch.equal(buffer.keys[rows], keys) and torch.equal(buffer.values[rows], values)

    def take(self, place, rows, buffer):
        """Fill in rows, once they are there."""
        with self.room:
            assert self.room.wait_for(lambda: place in self.laid or self.failed, PATIENCE)
            assert not self.failed
            buffer.keys[rows], buffer.values[rows] = self.laid[place]

    def fail(self):
        with self.room:
            self.failed = True
            self.room.notify_all()


class Seat:
    """One rank's exchange over a table. Meetings are told apart by how many there have been."""

    def __init__(self, table, shares):
        self.table, self.shares, self.meetings = table, shares, Counter()

    def shared(self, buffer, clip):
        return self.meet("all", 0, clip.shared_spans, buffer, clip)

    def divided(self, buffer, clip, shot, first):
        return self.meet(shot, first, [clip.own_span(shot)], buffer, clip)

    def meet(self, what, row, spans, buffer, clip):
        self.meetings[what] += 1
        mine, others = [], []
        for span in spans:
            for number, tokens in enumerate(self.shares):
                piece = common(span, tokens)
                start = row + piece.start - span.start
                place = (what, self.meetings[what], piece.start)
                rows = slice(start, start + len(piece))
                if piece:
                    (mine if number == clip.share.number else others).append((place, rows, buffer))
            row += len(span)
        for each in mine:
            self.table.give(*each)
        for _, rows, _ in others:
            buffer.keys[rows] = buffer.values[rows] = NOT_YET
        return partial(self.arrive, mine, others)

    def arrive(self, mine, others):
        for each in others:
            self.table.take(*each)
        for each in mine:
            assert self.table.has(*each), "changed on its way"


@st.composite
def partitions(draw, tokens):
    """A clip's tokens in up to four shares, cut anywhere."""
    ranks = draw(st.integers(1, min(4, tokens)))
    if ranks == 1:
        return [range(tokens)]
    cuts = draw(st.sets(st.integers(1, tokens - 1), min_size=ranks - 1, max_size=ranks - 1))
    return [range(*pair) for pair in pairwise([0, *sorted(cuts), tokens])]


def shared_out(clip, shares):
    return [replace(clip, share=Share(tokens, number)) for number, tokens in enumerate(shares)]


def by_ranks(clip, shares, run, config, dtype=torch.float32):
    """What each rank's model gives, all at work at once in threads of their own, and how they met."""
    table = Table(len(shares))

    def work(part):
        model = random_model(config, dtype=dtype)
        model.compute = Compute(exchange=Seat(table, shares))
        try:
            return run(model, part)
        except BaseException:
            table.fail()
            raise

    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(work, shared_out(clip, shares))), table


@settings(max_examples=60, deadline=None)
@given(clip=clips(), data=st.data())
def test_ranks_that_meet_in_self_attention_give_the_velocity_of_one(clip, data):
    """Sparse and full attention, cuts anywhere, shots of one frame and shots divided among three, frozen frames."""
    shares = data.draw(partitions(clip.layout.tokens))
    last = clip.layout.latent_frames - 1
    frames = st.sets(st.integers(0, last), max_size=last)
    clip = replace(clip, frozen=frozenset(data.draw(frames)))
    windows = data.draw(window_sets(clip.layout.shots, ROWS))
    latents, context = inputs(clip)
    contexts = [context, 2 * context]

    def run(model, part):
        return fast(model, latents, contexts, part, windows)

    found, _ = by_ranks(clip, shares, run, config_of())
    expected = run(random_model(config_of()), clip)
    for branch in range(2):
        total = sum(velocities[branch] for velocities in found)
        assert error(total, expected[branch]) < 1e-5
    if not clip.frozen:
        oracle = slow(random_model(config_of()), latents, context, clip, windows)
        assert error(sum(each[0] for each in found), oracle) < 1e-5


@settings(max_examples=10, deadline=None)
@given(clip=clips(), data=st.data())
def test_a_rank_gives_its_own_tokens_and_zero_elsewhere(clip, data):
    shares = data.draw(partitions(clip.layout.tokens))
    latents, context = inputs(clip)
    found, _ = by_ranks(
        clip, shares, lambda model, part: fast(model, latents, [context], part, None)[0], config_of()
    )
    positions = Positions.of(clip.layout, config_of().head_dim, torch.device("cpu"))
    for velocity, tokens in zip(found, shares, strict=True):
        rows = read_patches(velocity, positions, slice(0, clip.layout.tokens)).any(dim=1)
        assert {token for token, moves in enumerate(rows) if moves} == set(tokens)


def test_only_shared_keys_and_values_travel_where_no_shot_is_divided():
    """A latent frame's keys and values a shot and block, however long the shots are."""
    clip, config = Clip(ShotLayout((0, 4, 9), 12, 2, 3)), config_of(layers=2)
    latents, context = inputs(clip)
    shares = [range(9 * 6), range(9 * 6, 12 * 6)]
    _, table = by_ranks(clip, shares, lambda model, part: fast(model, latents, [context], part, None), config)
    assert table.numbers == config.num_layers * 2 * 3 * clip.layout.frame_tokens * config.dim


def test_of_a_divided_shot_its_own_keys_and_values_travel_too():
    clip, config = Clip(ShotLayout((0, 4, 9), 12, 2, 3)), config_of(layers=2)
    latents, context = inputs(clip)
    shares = [range(6 * 6), range(6 * 6, 12 * 6)]
    _, table = by_ranks(clip, shares, lambda model, part: fast(model, latents, [context], part, None), config)
    assert table.numbers == config.num_layers * 2 * (3 + 4) * clip.layout.frame_tokens * config.dim


def test_ranks_reuse_their_own_residuals():
    """The step cache's path: what the blocks added is kept by whoever computed it, a row a token of its own."""
    clip, config = Clip(ShotLayout((0, 2, 3), 6, 2, 3), chunks=Chunks(7, 5)), config_of()
    latents, context = inputs(clip)

    def run(model, part):
        residual = torch.empty(part.stream_rows, config.dim)
        with torch.inference_mode():
            texts = [TextRows(model.embed_text(context))]
            model(latents, TIMESTEP, texts, part, residuals=[residual])
            return model.reuse(1.1 * latents, TIMESTEP - 20, [residual], part)[0]

    found, _ = by_ranks(clip, [range(15), range(15, 36)], run, config)
    assert error(sum(found), run(random_model(config), clip)) < 1e-5


def test_a_part_of_a_clip_without_other_ranks_is_no_velocity():
    clip = Clip(ShotLayout((0, 2), 4, 2, 3), share=Share(range(12, 24), 1))
    latents, context = inputs(clip)
    with pytest.raises(AssertionError, match="no rank to ask"):
        fast(random_model(config_of()), latents, [context], clip, None)


# --- rows ------------------------------------------------------------------------------------------


@given(clip=clips(), data=st.data())
def test_every_token_of_a_rank_has_one_row(clip, data):
    for part in shared_out(clip, data.draw(partitions(clip.layout.tokens))):
        rows = [range(part.stream_rows)[part.rows(slice(token, token + 1))][0] for token in part.here]
        assert rows == list(range(part.stream_rows))
        for cut in portions(part.here, clip.chunks.attention):
            assert rows[cut.start - part.here.start : cut.stop - part.here.start] == list(
                range(part.stream_rows)[part.rows(cut)]
            )


@given(clip=clips(), data=st.data())
def test_pieces_of_ranks_are_the_shared_rows_once_each(clip, data):
    shared = [token for span in clip.shared_spans for token in span]
    owner = {}
    for part in shared_out(clip, data.draw(partitions(clip.layout.tokens))):
        for row, span in part.shared_here:
            for offset, token in enumerate(span):
                assert shared[row + offset] == token
                assert row + offset not in owner
                owner[row + offset] = part
    assert sorted(owner) == list(range(clip.shared_tokens))


@given(clip=clips(), data=st.data())
def test_queries_of_ranks_are_the_clip_once_each(clip, data):
    met = Counter()
    for part in shared_out(clip, data.draw(partitions(clip.layout.tokens))):
        assert sorted(part.visits) == list(part.query_spans)
        for shot, span in part.query_spans:
            assert set(span) <= set(clip.layout.token_span(shot))
            met.update(span)
    assert met == Counter(range(clip.layout.tokens))


@given(clip=clips().filter(lambda clip: clip.attention == "sparse"), data=st.data())
def test_ranks_never_wait_for_each_other_in_a_circle(clip, data):
    """Divided shots in each rank's order of visits: somewhere there is always one for which all are ready."""
    waiting = [
        [shot for shot, _ in part.visits if part.is_divided(shot)]
        for part in shared_out(clip, data.draw(partitions(clip.layout.tokens)))
    ]
    while any(waiting):
        left = {shot for queue in waiting for shot in queue}
        ready = {shot for shot in left if all(queue[0] == shot for queue in waiting if shot in queue)}
        assert ready
        waiting = [[shot for shot in queue if shot not in ready] for queue in waiting]


def test_a_token_of_another_rank_has_no_row():
    part = Clip(ShotLayout((0, 2), 4, 2, 3), share=Share(range(12, 24), 1))
    with pytest.raises(AssertionError, match="not computed here"):
        part.rows(slice(0, 3))


@pytest.mark.parametrize("parts", [{"share": Share(range(20, 25))}, {"frozen": frozenset({4})}])
def test_a_clip_has_the_tokens_and_frames_it_is_said_to_compute_or_freeze(parts):
    with pytest.raises(AssertionError, match="no such"):
        Clip(ShotLayout((0, 2), 4, 2, 3), **parts)


class Silent:
    """Other ranks that send zeros."""

    def shared(self, buffer, _clip):
        buffer.keys.zero_()
        buffer.values.zero_()
        return here

    def divided(self, buffer, clip, shot, first):
        rows = slice(first, first + len(clip.own_span(shot)))
        buffer.keys[rows] = 0
        buffer.values[rows] = 0
        return here


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("frames", [range(8), range(8, 32), range(4, 16), range(2, 7)])
def test_a_rank_takes_the_memory_of_its_own_tokens(frames, attention):
    share = Share(range(frames.start * 60, frames.stop * 60), 1)
    clip = Clip(ShotLayout((0, 8, 16, 24, 32), 40, 6, 10), attention, Chunks(400, 300), share)
    config = config_of(128, 2, 1, 700)
    model, latents = random_model(config), torch.randn(16, 40, 12, 20)
    model.compute = Compute(exchange=Silent())
    with torch.inference_mode():
        windows = tuple(torch.arange(512) for _ in range(clip.layout.shots))
        texts = [TextRows(model.embed_text(torch.randn(512, TEXT_DIM)), windows)]
        with LiveBytes() as live:
            model(latents, TIMESTEP, texts, clip)
    plan = working_set(config, clip, bytes_per_number=4)
    assert plan.streams == len(frames) * 60 * config.dim * 4
    assert 0.9 * (plan.peak - plan.text) <= live.peak <= 1.05 * (plan.peak - plan.text)


# --- with one rank ---------------------------------------------------------------------------------


class Dispatched(TorchDispatchMode):
    """Counts the operators that reach a device."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


class OneRank:
    """A forward as it is without ranks and frozen frames: a token's number is its row, and nobody is asked."""

    def __init__(self, model, clip):
        self.model, self.clip, self.eps = model, clip, model.config.eps
        self.positions = Positions.of(clip.layout, model.config.head_dim, torch.device("cpu"))

    def velocities(self, latents, texts):
        embedded, modulation = self.model.embed_time(TIMESTEP)
        streams = self.patches(latents, len(texts))
        for block in self.model.blocks:
            shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation[0] + modulation
            self.attend_(streams, block.self_attn, Modulation(shift1, scale1, gate1))
            self.read_(streams, texts, block.cross_attn, block.norm3)
            self.feed_(streams, block.ffn, Modulation(shift2, scale2, gate2))
        return [self.head(x, embedded, latents) for x in streams]

    def tokens(self, size):
        return portions(range(self.clip.layout.tokens), size)

    def patches(self, latents, count):
        embedding = self.model.patch_embedding
        weight = embedding.weight.flatten(1)
        streams = [latents.new_empty(self.clip.layout.tokens, self.model.config.dim) for _ in range(count)]
        for tokens in self.tokens(self.clip.chunks.attention):
            rows = read_patches(latents, self.positions, tokens).to(torch.float32)
            embedded = F.linear(rows, weight, embedding.bias)
            for x in streams:
                x[tokens] = embedded
        return streams

    def attend_(self, streams, layer, mod):
        visit = SelfAttentionVisit(layer.unpacked(self.model.compute), mod, self.clip, self.positions)
        layout, sparse = self.clip.layout, self.clip.attention == "sparse"
        frame = layout.frame_tokens
        firsts = [range(start * frame, (start + 1) * frame) for start in layout.starts]
        shared = firsts if sparse else [range(layout.tokens)]
        seen_by_all = sum(map(len, shared))
        rows = seen_by_all + (layout.longest if sparse else 0)
        buffer = KeyValues(rows, layer.heads, self.model.config.head_dim, like=streams[0])
        for x in streams:
            buffer.go_to(0)
            for span in shared:
                visit._append_keys(x, span, buffer)
            for shot in range(layout.shots):
                span = layout.token_span(shot)
                buffer.go_to(seen_by_all)
                buffer.repeat(range(shot * frame, (shot + 1) * frame) if sparse else range(0))
                visit._append_keys(x, span[frame:] if sparse else range(0), buffer)
                visit._attend_(x, span, buffer)

    def read_(self, streams, texts, layer, norm):
        weights = layer.unpacked(self.model.compute)
        for x, text in zip(streams, texts, strict=True):
            given_rows = weights.k.prepare(text.rows)
            keys, values = weights.keys(given_rows), weights.values(given_rows)
            shots = range(self.clip.layout.shots)
            windows = [(range(self.clip.layout.tokens), None)]
            if text.windows is not None:
                windows = [(self.clip.layout.token_span(shot), text.windows[shot]) for shot in shots]
            for span, rows in windows:
                seen = (keys, values) if rows is None else (keys[rows], values[rows])
                for tokens in self.clip.text_portions(span):
                    part = x[tokens]
                    q = weights.queries(layer_norm(part, norm.eps, norm.weight, norm.bias))
                    out = weights.compute.attention(q, *seen).flatten(1)
                    part.add_(weights.o.apply(out))

    def feed_(self, streams, layer, mod):
        up, down = layer.unpacked(self.model.compute)
        for x in streams:
            for tokens in self.tokens(self.clip.chunks.feed_forward):
                inner = gelu_(up.apply(modulate(x[tokens], mod.shift, mod.scale, self.eps)))
                gated_add_(x[tokens], mod.gate, down.apply(inner))

    def head(self, x, embedded, latents):
        shift, scale = self.model.head.modulation[0] + embedded
        project, velocity = self.model.head.head.unpacked(), torch.empty_like(latents)
        for tokens in self.tokens(self.clip.chunks.attention):
            rows = project(modulate(x[tokens], shift, scale, self.eps))
            write_patches(velocity, self.positions, tokens, rows)
        return velocity


@settings(max_examples=25, deadline=None)
@given(clip=clips(), data=st.data())
def test_one_rank_pays_nothing_for_the_others(clip, data):
    """The same operators in the same number, and the same bits, as a forward that knows of no ranks."""
    model = random_model(config_of())
    latents, context = inputs(clip)
    windows = data.draw(window_sets(clip.layout.shots, ROWS))
    rows = windows and tuple(torch.tensor(seen) for seen in windows)
    with torch.inference_mode():
        texts = [TextRows(model.embed_text(one), rows) for one in (context, 2 * context)]
        with Dispatched() as here:
            found = model(latents, TIMESTEP, texts, clip)
        with Dispatched() as plain:
            expected = OneRank(model, clip).velocities(latents, texts)
    assert here.count == plain.count
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
