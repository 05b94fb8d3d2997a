"""Each loss against numbers worked out by hand, finite differences, and what it must not depend on."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.bodies import load_body
from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.losses.collision import collision, released_collision, squared_collision
from handface.trainers.losses.config import Balance
from handface.trainers.losses.contact import contact, level_contact, presence
from handface.trainers.losses.deformation import deformation, no_deformation, stiffness_weights
from handface.trainers.losses.depth import affine_invariant, ordinal, part_groups, silog
from handface.trainers.losses.keypoints import RELEASED_HAND_ORDER, drawn_keypoints, keypoints_2d, plain_keypoints_2d
from handface.trainers.losses.parameters import parameters
from handface.trainers.losses.reduce import Term, masked_mean
from handface.trainers.losses.touch import squared_touch, touch
from handface.trainers.losses.vertices import drawn_vertices, level_vertices, parametric_vertices
from handface.trainers.regressor import keypoint_regressor

DOUBLE = torch.float64
METRIC, AFFINE, INVERSE, PER_PART = (DEPTH_KINDS.index(k) for k in ("metric", "affine", "affine-inverse", "affine-per-part"))  # fmt: skip
BOX = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=DOUBLE)
BOX_FACES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    return random(*shape, seed=seed).requires_grad_(True)


def test_vertices_by_hand() -> None:
    true = random(2, 5, 3)
    moved = true + 0.1  # the centred half of the loss does not see a shift
    assert torch.allclose(
        level_vertices((moved, moved[:, :2]), (true, true[:, :2])), torch.full((2,), 0.2 * 0.2, dtype=DOUBLE)
    )
    split = drawn_vertices((moved,), (true,), (true,), (true,))
    assert torch.allclose(split, torch.full((2,), 4 * 3 * 0.2 * 0.1, dtype=DOUBLE))
    split = parametric_vertices(moved, true - 0.2, true, true)
    assert torch.allclose(split, torch.full((2,), 0.3 + 0.2, dtype=DOUBLE))


def test_keypoints_by_hand() -> None:
    true = random(2, 4, 3)
    assert torch.allclose(drawn_keypoints(true + 0.1, true - 0.2, true, true), torch.full((2,), 1.2, dtype=DOUBLE))
    labels = torch.tensor([[[10.0, 20, 1], [30, 40, 0.5], [0, 0, 0]]])
    pixels = torch.tensor([[[14.0, 20], [30, 48], [99, 99]]])
    assert keypoints_2d(pixels, labels, 100).item() == pytest.approx((1 * 0.02 + 0.5 * 0.04) / 1.5)
    assert plain_keypoints_2d(pixels, labels, 100).item() == pytest.approx((0.02 + 0.04) / 2)
    assert keypoints_2d(pixels, labels * torch.tensor([1, 1, 0]), 100).item() == 0
    assert sorted(RELEASED_HAND_ORDER) == list(range(21))


def test_parameters_by_hand() -> None:
    pairs = [(torch.ones(1, 4), torch.zeros(1, 4)), (torch.zeros(1, 2), torch.full((1, 2), 3.0))]
    assert parameters(pairs).item() == pytest.approx(0.5 * (1 + 3))


def test_contact_by_hand() -> None:
    logits, labels = torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]])
    assert level_contact(logits, labels).item() == pytest.approx(math.log(2))
    logits = torch.tensor([[math.log(3), 0.0, 0, 0]])  # p = 3/4 of the one that touches
    assert level_contact(logits, labels).item() == pytest.approx((math.log(4 / 3) + 3 * math.log(2)) / 4)
    assert level_contact(logits, labels, "balanced").item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    root = (math.log(4 / 3) + math.sqrt(3) * math.log(2)) / (1 + math.sqrt(3))
    assert level_contact(logits, labels, "root").item() == pytest.approx(root)
    for same in (torch.zeros_like(labels), torch.ones_like(labels)):
        for balance in get_args(Balance):
            assert level_contact(logits, same, balance).item() == pytest.approx(level_contact(logits, same).item())
    levels = (logits, logits[:, :2])
    whole = contact(levels, (logits,), (labels, labels[:, :2]), (labels,))
    parts = 2 * level_contact(logits, labels) + level_contact(logits[:, :2], labels[:, :2])
    assert torch.allclose(whole, 0.2 * parts)
    assert presence(torch.tensor([math.log(3)]), torch.tensor([0.0])).item() == pytest.approx(math.log(4))


def test_balanced_contact_gives_touching_vertices_half_the_gradient() -> None:
    logits, labels = torch.zeros(1, 22, requires_grad=True), torch.zeros(1, 22)
    labels[0, 0] = 1
    (gradient,) = torch.autograd.grad(level_contact(logits, labels, "balanced").sum(), logits)
    assert gradient[0, 0].abs().item() == pytest.approx(gradient[0, 1:].abs().sum().item())


def test_an_unsure_network_answers_by_the_balance() -> None:
    """One logit for all vertices, 1 of 17 of which touch: the best one says with which probability a vertex counts as touching."""
    labels = torch.zeros(1, 17)
    labels[0, 0] = 1
    for balance, odds in (("plain", 1 / 16), ("root", 1 / 4), ("balanced", 1.0)):
        logit = torch.tensor(math.log(odds), requires_grad=True)
        (gradient,) = torch.autograd.grad(level_contact(logit.expand(1, 17), labels, balance).sum(), logit)
        assert gradient.item() == pytest.approx(0, abs=1e-6)


def test_deformation_by_hand() -> None:
    target = torch.tensor([[[0.0, 0.003, 0.004], [0.0, 0, 0]]])  # 5 mm
    predicted = target + torch.tensor([[[0.001, 0, 0], [0, 0.002, 0]]])
    expected = 100 * (1e-6 * (1 + 5000 * 0.005) + 4e-6) / 2
    assert deformation(predicted, target).item() == pytest.approx(expected, rel=1e-4)
    weights = torch.tensor([1.0, 10.0])
    expected = 100 * (1e-6 * 26 + 10 * 4e-6) / 2
    assert deformation(predicted, target, stiffness=weights).item() == pytest.approx(expected, rel=1e-4)
    large = torch.tensor([[[0.0, 0.04, -0.01], [0.02, 0.0, 0.0]]])
    assert deformation(large, large, 4.0).item() == pytest.approx(4 * 0.05 / 2)
    assert no_deformation(large).item() == pytest.approx((0.05 + 0.02) / 2)


def test_stiffness_weights_are_the_papers() -> None:
    weights = stiffness_weights(torch.tensor([0.0, 0.5, 0.9, 1.0]))
    assert torch.allclose(weights, torch.tensor([1.0, 2.48, 12.9, 36.5]), rtol=3e-3)


def test_touch_by_hand() -> None:
    hand = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]]])
    head = torch.tensor([[[0.0, 2, 0], [0.0, 3, 0]]])
    on = torch.tensor([[True, True, False]]), torch.tensor([[True, True]])
    term = touch(hand, head, *on)
    assert term.values.item() == pytest.approx(1e3 * ((2 + 3) / 2 + (2 + math.sqrt(5)) / 2))  # millimetres
    assert term.mask.tolist() == [True]
    squared = squared_touch(hand, head, *on, over_batch=False)
    assert squared.values.item() == pytest.approx((4 + 9) / 2 + (4 + 5) / 2)
    nobody = torch.zeros(1, 3, dtype=torch.bool)
    for one_sided in (touch(hand, head, nobody, on[1]), squared_touch(hand, head, nobody, on[1], over_batch=False)):
        assert one_sided.mask.tolist() == [False]
        assert one_sided.total == 0
    released = squared_touch(hand, head, nobody, on[1], over_batch=True)
    assert (released.total, released.count) == (0, 1)  # counts, as 0: the batch is what the release divides by


def test_touch_gradient() -> None:
    on = random(2, 9, seed=3) > 0, random(2, 8, seed=4) > 0
    points = leaf(2, 9, 3), leaf(2, 8, 3, seed=1)
    assert torch.autograd.gradcheck(lambda a, b: touch(a, b, *on).values, points)
    assert torch.autograd.gradcheck(lambda a, b: squared_touch(a, b, *on, over_batch=False).values, points)


def test_collision_pushes_out_what_is_inside_and_nothing_else() -> None:
    hand = torch.tensor([[[0.9, 0.45, 0.4], [1.5, 0.5, 0.5], [0.3, 0.42, 0.2]]], dtype=DOUBLE, requires_grad=True)
    head = BOX[None].clone().requires_grad_(True)
    from handface.trainers.geometry import vertex_faces

    at = torch.from_numpy(vertex_faces(BOX_FACES.numpy(), 8))
    loss = collision(hand, head, BOX_FACES, BOX_FACES, at)
    assert loss.item() == pytest.approx(1e3 * (0.1 + 0.2) / 2)  # mean depth, millimetres
    gradient, shell = torch.autograd.grad(loss.sum(), (hand, head))
    assert torch.allclose(gradient[0, 0], torch.tensor([-500.0, 0, 0], dtype=DOUBLE))  # downhill: out through x = 1
    assert not gradient[0, 1].any()
    assert torch.allclose(gradient[0, 2], torch.tensor([0, 0, 500.0], dtype=DOUBLE))
    assert torch.allclose(shell.sum(1), -gradient.sum(1))
    assert torch.autograd.gradcheck(lambda a, b: collision(a, b, BOX_FACES, BOX_FACES, at), (hand, head))
    assert torch.autograd.gradcheck(lambda a, b: squared_collision(a, b, BOX_FACES), (hand, head))
    nearest = (0.1**2 + 0.45**2 + 0.4**2) + (0.3**2 + 0.42**2 + 0.2**2)
    assert squared_collision(hand, head, BOX_FACES).item() == pytest.approx(nearest / 8)


def test_released_collision_draws_vertices_0_and_1_to_the_head() -> None:
    hand = torch.tensor([[[2.0, 0, 0], [3.0, 0, 0], [0.4, 0.42, 0.2]]], dtype=DOUBLE, requires_grad=True)
    loss = released_collision(hand, BOX[None], BOX_FACES)
    assert loss.item() == pytest.approx((2 * 1 + 1 * 4) / 8)  # flags 0, 0, 1 taken for indices
    (gradient,) = torch.autograd.grad(loss.sum(), hand)
    assert not gradient[0, 2].any()  # the one that collides stays
    assert gradient[0, 0, 0] > 0


def test_silog_by_hand_and_its_one_invariance() -> None:
    z = torch.tensor([[0.0, 0.1, -0.1]], dtype=DOUBLE)
    r, kind, use = (
        torch.tensor([[2.0, 2.0, 3.0]], dtype=DOUBLE),
        torch.tensor([METRIC]),
        torch.ones(1, 3, dtype=torch.bool),
    )
    expected = torch.tensor([math.log(1 / 2), math.log(1.1 / 2), math.log(0.9 / 3)], dtype=DOUBLE).std()
    term = silog(z, r, kind, use, min_points=3)
    assert term.values.item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.allclose(silog(z, 7 * r, kind, use).values, term.values)
    assert not torch.allclose(silog(z, r + 1, kind, use).values, term.values, rtol=1e-2)
    inverse = silog(z, 1 / r, torch.tensor([INVERSE]), use)
    assert torch.allclose(inverse.values, term.values)
    assert silog(z, r, kind, use, min_points=4).mask.tolist() == [False]
    assert silog(z, r, torch.tensor([PER_PART]), use, 3).mask.tolist() == [False]


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(0.01, 100),
    shift=st.floats(-50, 50),
    kind=st.sampled_from([METRIC, AFFINE, INVERSE, PER_PART]),
    robust=st.booleans(),
    seed=st.integers(0, 99),
)
def test_affine_form_heeds_neither_scale_nor_shift(
    scale: float, shift: float, kind: int, robust: bool, seed: int
) -> None:
    z, r = 0.1 * random(1, 89, seed=seed), random(1, 89, seed=seed + 1)
    use, kinds = random(1, 89, seed=seed + 2) > -1, torch.tensor([kind])
    base = affine_invariant(z, r, kinds, use, robust)
    assert base.mask.all()
    assert torch.allclose(affine_invariant(z, scale * r + shift, kinds, use, robust).values, base.values, rtol=1e-6)
    if kind != INVERSE:  # the prediction's own scale is left to the other losses, too
        assert torch.allclose(affine_invariant(2 * z + 0.3, r, kinds, use, robust).values, base.values, rtol=1e-6)
    if kind == PER_PART:
        apart = torch.cat([r[:, :68], scale * r[:, 68:] + shift], 1)
        assert torch.allclose(affine_invariant(z, apart, kinds, use, robust).values, base.values, rtol=1e-6)
    ignored = torch.where(use, r, 1e3)
    assert torch.allclose(affine_invariant(z, ignored, kinds, use, robust).values, base.values)


def test_affine_form_is_one_minus_correlation() -> None:
    z, r = 0.1 * random(3, 89), random(3, 89, seed=1)
    term = affine_invariant(z, r, torch.full((3,), AFFINE), torch.ones(3, 89, dtype=torch.bool))
    expected = torch.stack([1 - torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(z, r, strict=True)])
    assert torch.allclose(term.values, expected)
    opposite = affine_invariant(-r, r, torch.full((3,), AFFINE), torch.ones(3, 89, dtype=torch.bool))
    assert torch.allclose(opposite.values, torch.full((3,), 2.0, dtype=DOUBLE))


def test_robust_form_shrugs_off_outliers() -> None:
    z = 0.1 * random(1, 89)
    r, kind, use = 3 * z + 1, torch.tensor([AFFINE]), torch.ones(1, 89, dtype=torch.bool)
    r[:, ::10] += 0.5
    plain, robust = (affine_invariant(z, r, kind, use, form).values.item() for form in (False, True))
    clean = affine_invariant(z, 3 * z + 1, kind, use, True).values.item()
    assert clean == pytest.approx(0, abs=1e-9)
    assert robust < 0.35
    _, gradient = (torch.autograd.grad(affine_invariant(x := z.clone().requires_grad_(True), r, kind, use, f).values.sum(), x)[0]
                   for f in (False, True))  # fmt: skip
    assert plain > 0.01
    assert gradient.isfinite().all()


def test_disparity_is_compared_with_disparity() -> None:
    z = 0.2 * random(1, 89)
    disparity, kind, use = 4 / (1 + z) + 9, torch.tensor([INVERSE]), torch.ones(1, 89, dtype=torch.bool)
    assert affine_invariant(z, disparity, kind, use).values.item() == pytest.approx(0, abs=1e-9)
    as_depth = affine_invariant(z, disparity, torch.tensor([AFFINE]), use)
    assert as_depth.values.item() > 1.5  # taken for depth it is upside down
    assert ordinal(z, disparity, kind, use, margin=0).values.item() == 0


def test_released_silog_takes_one_variance_over_the_batch() -> None:
    z, r = 0.1 * random(3, 5), random(3, 5, seed=1).exp()
    kind, use = torch.tensor([METRIC, METRIC, -1]), torch.ones(3, 5, dtype=torch.bool)
    term = silog(z, r, kind, use, min_points=2, pooled=True)
    expected = ((z + 1).log() - r.log())[:2].flatten().std()
    assert term.mask.tolist() == [True, True, False]
    assert torch.allclose(term.total / term.count, expected)
    assert not torch.allclose(silog(z, r, kind, use, 2).values[:2], expected, rtol=1e-2)


def test_released_contact_has_no_gradient_beyond_its_clamp() -> None:
    logits = torch.tensor([[20.0, 1.0]], requires_grad=True)
    none = torch.zeros(1, 2)
    clamped = contact((logits,), (logits,), (none,), (none,), clamped=True)
    assert clamped.item() == pytest.approx(2 * 0.2 * (11.512925 + math.log1p(math.e)) / 2, abs=1e-4)
    (gradient,) = torch.autograd.grad(clamped.sum(), logits)
    assert gradient[0, 0] == 0 and gradient[0, 1] > 0


def test_noise_of_the_mesh_hardly_moves_the_keypoints_read_off_it() -> None:
    """The regressor is made for vertices that are millimetres off, as a network's are."""
    body = load_body("free-hand", "free")
    noise = 0.003 * torch.randn(50, body.num_vertices, 3, generator=torch.Generator().manual_seed(5))
    moved = (keypoint_regressor(body) @ noise).norm(dim=-1)
    assert noise.norm(dim=-1).mean() > 0.0045
    assert moved.mean() < 0.0025


def test_flat_or_few_references_do_not_count() -> None:
    z, use = 0.1 * random(2, 89), torch.ones(2, 89, dtype=torch.bool)
    kinds = torch.tensor([AFFINE, AFFINE])
    assert not affine_invariant(z, torch.ones_like(z), kinds, use).mask.any()
    use[0, 7:] = False
    assert affine_invariant(z, random(2, 89, seed=1), kinds, use).mask.tolist() == [False, True]
    assert not ordinal(z, torch.ones_like(z), kinds, use).mask.any()
    nothing = torch.zeros_like(use)
    for term in (affine_invariant(z, z, kinds, nothing), affine_invariant(z, z, kinds, nothing, True),
                 ordinal(z, z, kinds, nothing), silog(z, z, kinds, nothing)):  # fmt: skip
        assert not term.mask.any()
        assert term.values.isfinite().all()
        assert term.total == 0


def test_ordinal_by_hand() -> None:
    z = torch.tensor([[0.0, 0.010, 0.005]], dtype=DOUBLE)
    r, use = torch.tensor([[1.0, 2.0, 3.0]], dtype=DOUBLE), torch.ones(1, 3, dtype=torch.bool)
    term = ordinal(z, r, torch.tensor([AFFINE]), use, margin=0.002)
    assert term.values.item() == pytest.approx((0 + 0 + 0.007) / 3)  # only the pair (1, 2) is in the wrong order
    assert (
        ordinal(z, r, torch.tensor([AFFINE]), use, margin=0.002, clear=2.0).values.item() == 0
    )  # (0, 2) alone is clear
    assert ordinal(z, 5 * r - 9, torch.tensor([METRIC]), use).values.item() == pytest.approx(term.values.item())
    assert ordinal(-z, -r, torch.tensor([AFFINE]), use).values.item() == pytest.approx(term.values.item())


def test_parts_that_cannot_be_compared_are_not() -> None:
    use = torch.ones(3, 89, dtype=torch.bool)
    groups = part_groups(torch.tensor([PER_PART, AFFINE, -1]), use)
    assert groups.sum(-1).tolist() == [[0, 68, 21], [89, 0, 0], [0, 0, 0]]
    z = 0.1 * random(1, 89)
    r = z.clone()
    r[:, 68:] -= 100  # the hand far in front: meaningless between parts
    assert ordinal(z, r, torch.tensor([PER_PART]), use[:1], margin=0).values.item() == 0
    assert ordinal(z, r, torch.tensor([AFFINE]), use[:1], margin=0).values.item() > 0


@pytest.mark.parametrize("kind", [METRIC, INVERSE, PER_PART])
def test_depth_gradients(kind: int) -> None:
    kinds, use = torch.tensor([kind]), random(1, 89, seed=5) > -1
    r = 2 + 0.3 * random(1, 89, seed=1)
    z = (0.1 * random(1, 89)).requires_grad_(True)
    for loss in (
        lambda x: affine_invariant(x, r, kinds, use).values,
        lambda x: affine_invariant(x, r, kinds, use, robust=True).values,
        lambda x: ordinal(x, r, kinds, use).values,
        lambda x: silog(x, r, kinds, use).values,
    ):
        assert torch.autograd.gradcheck(loss, (z,), eps=1e-8, atol=1e-4, rtol=1e-3)


def test_other_gradients() -> None:
    true = 0.01 * random(2, 6, 3, seed=9)
    assert torch.autograd.gradcheck(lambda x: deformation(x, true), ((0.01 * random(2, 6, 3)).requires_grad_(True),))
    assert torch.autograd.gradcheck(lambda x: level_vertices((x,), (true,)), (leaf(2, 6, 3),))
    labels = (random(2, 6, seed=2) > 0).to(DOUBLE)
    assert torch.autograd.gradcheck(lambda x: level_contact(x, labels, True), (leaf(2, 6),))
    points = torch.cat([random(2, 6, 2, seed=7), labels[..., None]], -1)
    assert torch.autograd.gradcheck(lambda x: keypoints_2d(x, points, 10), (leaf(2, 6, 2),))


def test_terms_of_nobody_are_zero_with_zero_gradient() -> None:
    values = leaf(3)
    term = Term(values, torch.zeros(3, dtype=torch.bool))
    assert term.total == 0
    assert term.count == 0
    (gradient,) = torch.autograd.grad(term.total, values)
    assert not gradient.any()
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


@pytest.mark.parametrize("convention", ["free", "decaf"])
def test_keypoints_can_be_read_off_a_hand_in_any_pose(convention: str) -> None:
    body = load_body("free-hand", convention)
    weights = keypoint_regressor(body)
    g = torch.Generator().manual_seed(11)
    out = body(
        torch.randn(20, 10, generator=g), 0.3 * torch.randn(20, 45, generator=g), torch.randn(20, 3, generator=g),
        torch.randn(20, 3, generator=g),
    )  # fmt: skip
    error = (weights @ out.vertices - out.keypoints).norm(dim=-1)
    assert error.mean() < 0.0005  # metres
    assert error.amax() < 0.003
    assert torch.allclose(weights.sum(1), torch.ones(21), atol=1e-5)
