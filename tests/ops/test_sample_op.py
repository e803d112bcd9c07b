"""The op `sample`: token for token what the reference chooses, and in the long run what probability theory says."""

from __future__ import annotations

import numpy as np
import pytest
from harness import OpResult, Sequences, make_device, one_op, run_op
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform import _native
from pageform.ops.reference_sample import gumbel_noise, kept_tokens, philox
from pageform.ops.sampling import ROW_MASK_EMPTY, ROW_NONFINITE, ROW_OK, SamplingInputs
from pageform.runtime.runner import NativeRunner

SEED = st.integers(0, 2**32 - 1)


def sample(device: _native.Device, logits: np.ndarray, sampling: SamplingInputs, copy_logits: bool = False) -> OpResult:
    rows = len(logits)
    step = Sequences([0], [rows], logits_rows=range(rows)).inputs(copy_logits=copy_logits)
    return run_op("sample", [logits], [], step=step, sampling=sampling, device=device)


def draw(logits: np.ndarray, sampling: SamplingInputs) -> np.ndarray:
    """Sampled ids, without the reference: for many rows."""
    rows, vocab = logits.shape
    runner = NativeRunner(
        make_device(), one_op("sample", [vocab], []), [], [], None, max_tokens=rows, max_seqs=1, max_rows=rows
    )
    runner.feed("in0", logits)
    return runner.run(Sequences([0], [rows], logits_rows=range(rows)).inputs(sampling=sampling)).numpy().ids


def pack_mask(allowed: np.ndarray) -> np.ndarray:
    """Booleans [M, V] -> words [M, ceil(V / 32)]."""
    padded = np.zeros((len(allowed), -(-allowed.shape[1] // 32) * 32), np.uint8)
    padded[:, : allowed.shape[1]] = allowed
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint32)


def real_logits(seed: int, rows: int, vocab: int) -> np.ndarray:
    """A bulk of unlikely tokens, some likely ones, a few equal ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2.5, (rows, vocab))
    for row in x:
        row[rng.integers(0, vocab, 12)] += rng.uniform(0, 14, 12)
        row[rng.integers(0, vocab, 3)] = row.max()
    return x.astype(np.float32)


def assert_same(result: OpResult) -> None:
    """Everything that may not differ is equal. Ids are compared first: the message shows which rows."""
    native, reference = result.native_sampled, result.reference_sampled
    np.testing.assert_array_equal(native.ids, reference.ids)
    np.testing.assert_array_equal(native.status, reference.status)
    np.testing.assert_array_equal(native.ranks, reference.ranks)
    np.testing.assert_array_equal(native.top_ids, reference.top_ids)
    np.testing.assert_allclose(native.logprobs, reference.logprobs, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(native.top_logprobs, reference.top_logprobs, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(native.log_allowed, reference.log_allowed, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(native.allowed_logprobs, reference.allowed_logprobs, rtol=1e-6, atol=2e-6)


def ragged(rng: np.random.Generator, rows: int, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts [rows + 1] and, for each row, some different tokens."""
    parts = [rng.choice(vocab, rng.integers(0, min(vocab, 9)), replace=False) for _ in range(rows)]
    starts = np.cumsum([0] + [len(part) for part in parts])
    return starts.astype(np.int32), np.concatenate(parts).astype(np.int32)


@settings(max_examples=40, deadline=None)
@given(seed=SEED, rows=st.integers(1, 6), vocab=st.sampled_from([1, 2, 15, 16, 33, 64, 100, 1000, 5003]))
def test_every_parameter_at_once(device: _native.Device, seed: int, rows: int, vocab: int) -> None:
    rng = np.random.default_rng(seed)

    def pick(*values: float) -> np.ndarray:
        return rng.choice(values, rows)

    bias_start, bias_tokens = ragged(rng, rows, vocab)
    count_start, count_tokens = ragged(rng, rows, vocab)
    sampling = SamplingInputs(
        temperature=pick(0, 0.3, 1, 2.5).astype(np.float32),
        top_p=pick(1, 0.95, 0.55, 0.01).astype(np.float32),  # at 0.5, rounding decides between two equals
        min_p=pick(0, 0, 0.02, 0.3, 1).astype(np.float32),
        top_k=pick(0, 0, 1, 5, 40, 10**6).astype(np.int32),
        repetition=pick(1, 1.3, 0.7).astype(np.float32),
        presence=pick(0, 0.5, -1).astype(np.float32),
        frequency=pick(0, 0.25, -0.5).astype(np.float32),
        seed=rng.integers(0, 2**64, rows, dtype=np.uint64),
        stream=rng.integers(0, 2**32, rows, dtype=np.uint32),
        position=rng.integers(0, 2**32, rows, dtype=np.uint32),
        num_logprobs=np.minimum(pick(-1, 0, 1, 7, 100), vocab).astype(np.int32),
        target=np.where(rng.random(rows) < 0.2, rng.integers(0, vocab, rows), -1).astype(np.int32),
        defer=(rng.random(rows) < 0.1).astype(np.uint8),
        weigh=(rng.random(rows) < 0.5).astype(np.uint8),
        mask_row=rng.integers(-1, 3, rows).astype(np.int32),
        masks=pack_mask(np.stack([rng.random(vocab) < share for share in (0.9, 0.1, 2 / vocab)])),
        bias_start=bias_start,
        bias_tokens=bias_tokens,
        bias_values=rng.choice([-np.inf, -100, 2.5, 20], len(bias_tokens)).astype(np.float32),
        count_start=count_start,
        count_tokens=count_tokens,
        count_values=rng.integers(0, 4, len(count_tokens)).astype(np.int32),
        vocab=vocab,
    )
    logits = real_logits(seed, rows, vocab + int(rng.integers(0, 40)))
    logits[:, vocab:] = rng.choice([np.nan, np.inf, 1e9])  # padding columns are nobody's business
    logits[rng.random(rows) < 0.1, rng.integers(0, vocab)] = rng.choice([np.nan, np.inf, -np.inf])
    assert_same(sample(device, logits, sampling))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"top_k": 50},
        {"top_p": 0.9},
        {"min_p": 0.05},
        {"top_k": 20000, "top_p": 0.999},
        {"temperature": 6.0, "top_p": 0.97},
        {"temperature": 1e-30},
    ],
    ids=str,
)
def test_a_large_vocabulary(device: _native.Device, changes: dict[str, float]) -> None:
    logits = real_logits(1, 12, 49_152)
    settings = {"temperature": 1.0, "seed": np.arange(12, dtype=np.uint64), "num_logprobs": 20} | changes
    assert_same(sample(device, logits, SamplingInputs.greedy(12, **settings)))


# --- single rules -----------------------------------------------------------------------------------------------------


def test_greedy_takes_the_lowest_of_equal_ids(device: _native.Device) -> None:
    logits = np.zeros((2, 70), np.float32)
    logits[0, [40, 17, 66]] = 3
    result = sample(device, logits, SamplingInputs.greedy(2))
    assert result.native_sampled.ids.tolist() == [17, 0]


def test_equal_tokens_fill_top_k_by_id(device: _native.Device) -> None:
    logits = np.zeros((500, 40), np.float32)
    logits[:, 30] = 1
    rows = SamplingInputs.greedy(500, temperature=1.0, top_k=3, seed=np.arange(500, dtype=np.uint64))
    assert set(sample(device, logits, rows).native_sampled.ids.tolist()) == {30, 0, 1}


def test_top_p_leaves_out_the_equal_tokens_that_top_k_did(device: _native.Device) -> None:
    rows = SamplingInputs.greedy(20, temperature=1.0, top_k=2, top_p=0.9, seed=np.arange(20, dtype=np.uint64))
    assert set(sample(device, np.zeros((20, 40), np.float32), rows).native_sampled.ids.tolist()) == {0, 1}


def test_a_scored_row_ignores_masks_and_penalties(device: _native.Device) -> None:
    logits = real_logits(2, 1, 100)
    rows = SamplingInputs.greedy(
        1,
        target=8,
        num_logprobs=0,
        mask_row=np.zeros(1, np.int32),
        masks=np.zeros((1, 4), np.uint32),
        bias_start=np.array([0, 1], np.int32),
        bias_tokens=np.array([8], np.int32),
        bias_values=np.array([-np.inf], np.float32),
    )
    sampled = sample(device, logits, rows).native_sampled
    wide = logits[0].astype(np.float64)
    assert sampled.ids.tolist() == [8]
    assert sampled.ranks.tolist() == [1 + int((wide > wide[8]).sum())]
    assert sampled.logprobs[0] == pytest.approx(wide[8] - np.log(np.exp(wide).sum()), abs=1e-6)


def test_a_deferred_row_gives_its_raw_logits_and_nothing_else(device: _native.Device) -> None:
    logits = real_logits(3, 3, 77)
    rows = SamplingInputs.greedy(3, defer=np.array([0, 1, 0], np.uint8), num_logprobs=2)
    sampled = sample(device, logits, rows).native_sampled
    assert sampled.logits is not None
    np.testing.assert_array_equal(sampled.logits[1], logits[1])
    assert not sampled.logits[[0, 2]].any()
    assert sampled.ids[1] == -1
    assert sampled.status[1] == ROW_OK
    assert (sampled.top_ids[1] == -1).all()
    everything = sample(device, logits, SamplingInputs.greedy(3), copy_logits=True).native_sampled
    np.testing.assert_array_equal(everything.logits, logits)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("column", [0, 31, 95, 99])
def test_a_row_that_is_not_finite_is_refused_alone(device: _native.Device, bad: float, column: int) -> None:
    logits = real_logits(4, 3, 100)
    logits[1, column] = bad
    sampled = sample(device, logits, SamplingInputs.greedy(3, num_logprobs=1)).native_sampled
    assert sampled.status.tolist() == [ROW_OK, ROW_NONFINITE, ROW_OK]
    assert sampled.ids[1] == -1
    assert (sampled.ids[[0, 2]] >= 0).all()


def test_minus_infinity_alone_is_fine_unless_all_are(device: _native.Device) -> None:
    logits = np.full((2, 50), -np.inf, np.float32)
    logits[0, 20] = -4
    result = sample(device, logits, SamplingInputs.greedy(2, temperature=1.0, num_logprobs=3))
    assert result.native_sampled.ids.tolist() == [20, -1]
    assert result.native_sampled.status.tolist() == [ROW_OK, ROW_NONFINITE]
    assert result.native_sampled.logprobs[0] == 0
    assert result.native_sampled.top_ids[0].tolist() == [20, -1, -1]
    assert_same(result)


def test_a_mask_that_leaves_nothing(device: _native.Device) -> None:
    logits = real_logits(5, 2, 64)
    rows = SamplingInputs.greedy(
        2,
        mask_row=np.array([0, 1], np.int32),
        masks=np.array([[0, 0], [0, 1 << 9]], np.uint32),
        bias_start=np.array([0, 0, 1], np.int32),
        bias_tokens=np.array([41], np.int32),
        bias_values=np.array([-np.inf], np.float32),
    )
    sampled = sample(device, logits, rows).native_sampled
    assert sampled.status.tolist() == [ROW_MASK_EMPTY, ROW_MASK_EMPTY]
    assert sampled.ids.tolist() == [-1, -1]


def test_noise_depends_on_the_row_only_through_its_parameters(device: _native.Device) -> None:
    """The same request alone, and at any place among others, draws the same token."""
    logits = np.repeat(real_logits(6, 1, 3000), 9, axis=0)
    settings = {"temperature": 1.5, "position": np.array([4, 1, 4, 2, 4, 4, 4, 7, 4], np.uint32)}
    settings["stream"] = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0], np.uint32)
    settings["seed"] = np.array([9, 9, 9, 9, 9, 8, 9, 9, 9 + (1 << 32)], np.uint64)
    ids = sample(device, logits, SamplingInputs.greedy(9, **settings)).native_sampled.ids
    alone = {name: values if np.isscalar(values) else values[:1] for name, values in settings.items()}
    assert sample(device, logits[:1], SamplingInputs.greedy(1, **alone)).native_sampled.ids[0] == ids[0]
    assert ids[0] == ids[2] == ids[6]
    assert len(set(ids[[0, 1, 3, 4, 5, 7, 8]].tolist())) > 3


# --- noise and distribution -------------------------------------------------------------------------------------------


def test_philox_gives_the_published_words() -> None:
    """Known answers from the Random123 distribution's test vectors (philox4x32, 10 rounds)."""
    ones = 0xFFFFFFFF
    for key, counter, words in (
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones), (ones, ones, ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ):
        assert tuple(philox(key, counter).tolist()) == words


def test_noise_is_gumbel_distributed() -> None:
    noise = np.sort(gumbel_noise(12345, 0, 0, 100_000).astype(np.float64))
    distance = np.abs(np.exp(-np.exp(-noise)) - (np.arange(len(noise)) + 0.5) / len(noise)).max()
    assert distance < 1.63 / np.sqrt(len(noise))  # Kolmogorov-Smirnov, 1 %


@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 0.6}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 6, "top_p": 0.7, "min_p": 0.05}],
    ids=str,
)
@pytest.mark.parametrize("over", ["seed", "position"])
def test_draws_follow_the_distribution(changes: dict[str, float], over: str) -> None:
    """Chi-square of 20,000 draws, over seeds and over the positions of one seed; limits are for 1 in 10,000."""
    draws, vocab = 20_000, 40
    logits = np.random.default_rng(7).normal(0, 1.5, vocab).astype(np.float32)
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | changes
    z = (logits - logits.max()) / np.float32(settings["temperature"])
    kept = kept_tokens(z, settings["min_p"], int(settings["top_k"]), settings["top_p"])
    expected = np.zeros(vocab)
    expected[kept] = np.exp(z[kept].astype(np.float64))
    expected *= draws / expected.sum()
    settings[over] = np.arange(draws).astype(np.uint64 if over == "seed" else np.uint32)
    ids = draw(np.tile(logits, (draws, 1)), SamplingInputs.greedy(draws, **settings))
    seen = np.bincount(ids, minlength=vocab)
    assert not seen[expected == 0].any()
    often = expected >= 5  # the rest is one class, as the test wants classes of five or more
    seen_classes = np.append(seen[often], seen[~often].sum())
    expected_classes = np.append(expected[often], expected[~often].sum())
    keep = expected_classes > 0
    chi_square = ((seen_classes - expected_classes)[keep] ** 2 / expected_classes[keep]).sum()
    freedom = keep.sum() - 1
    # Wilson and Hilferty's approximation of the chi-square quantile; 3.72 is the normal one.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3
    assert chi_square < limit


# --- the mass that a mask allows --------------------------------------------------------------------------------------


def test_weighed_rows_tell_the_mass_that_their_mask_allows(device: _native.Device) -> None:
    logits = real_logits(5, 4, 100)
    allowed = np.zeros((2, 100), bool)
    allowed[0, [3, 50, 97]] = True
    rows = SamplingInputs.greedy(
        4,
        temperature=np.array([0, 0.3, 0, 0], np.float32),
        target=np.array([-1, -1, 50, 4], np.int32),
        mask_row=np.zeros(4, np.int32),
        masks=pack_mask(allowed),
        bias_start=np.array([0, 1, 1, 1, 1], np.int32),
        bias_tokens=np.array([3], np.int32),
        bias_values=np.array([30], np.float32),  # moves the choice, not the weights
        weigh=np.ones(4, np.uint8),
    )
    result = sample(device, logits, rows)
    assert_same(result)
    sampled = result.native_sampled
    assert sampled.ids[[0, 2, 3]].tolist() == [3, 50, 4]
    raw = np.exp(logits.astype(np.float64))
    raw /= raw.sum(axis=1, keepdims=True)
    kept = raw[:, allowed[0]].sum(axis=1)
    np.testing.assert_allclose(np.exp(sampled.log_allowed), kept, rtol=1e-5)
    own = raw[np.arange(4), sampled.ids]
    np.testing.assert_allclose(np.exp(sampled.allowed_logprobs[:3]), (own / kept)[:3], rtol=1e-5)
    np.testing.assert_allclose(np.exp(sampled.logprobs), own, rtol=1e-5)
    assert sampled.allowed_logprobs[3] == -np.inf  # the mask forbids the token that was scored


def test_rows_are_weighed_only_if_they_ask(device: _native.Device) -> None:
    logits = real_logits(6, 3, 64)
    rows = SamplingInputs.greedy(
        3,
        weigh=np.array([1, 0, 0], np.uint8),
        mask_row=np.array([-1, 0, 0], np.int32),
        masks=pack_mask(np.arange(64)[None] < 9),
    )
    sampled = sample(device, logits, rows).native_sampled
    assert sampled.log_allowed.tolist() == [0, 0, 0]  # without a mask all is allowed
    assert sampled.allowed_logprobs[0] == sampled.logprobs[0] < 0
    assert sampled.allowed_logprobs[1:].tolist() == sampled.logprobs[1:].tolist() == [0, 0]


def test_the_mass_of_unlikely_tokens_does_not_underflow(device: _native.Device) -> None:
    logits = np.zeros((1, 300), np.float32)
    logits[0, 7:9] = -500, -501
    rows = SamplingInputs.greedy(
        1, mask_row=np.zeros(1, np.int32), masks=pack_mask(np.isin(np.arange(300), (7, 8))[None])
    )
    rows.weigh = np.ones(1, np.uint8)
    sampled = sample(device, logits, rows).native_sampled
    assert sampled.log_allowed[0] == pytest.approx(-500 + np.log1p(np.exp(-1)) - np.log(298), rel=1e-6)
    assert sampled.allowed_logprobs[0] == pytest.approx(-np.log1p(np.exp(-1)), rel=1e-5)
