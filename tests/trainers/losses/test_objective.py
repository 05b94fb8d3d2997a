"""The objective as a whole: perfect predictions, masks, ranks, released faults."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from handface.model.bodies import load_body
from handface.model.network.output import DiceOutput
from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.batch import Batch, BodyLabels
from handface.trainers.bodies import Bodies
from handface.trainers.geometry import front_depth
from handface.trainers.losses import DepthLossConfig, Faults, LossConfig, LossStarts, LossWeights, Objective
from handface.trainers.targets import make_targets, pose_output
from tests.trainers.losses.scenes import make_batch, noisy, perfect

# touch and collision take most of a call's time: left out where a test says nothing about them
APART = LossWeights(touch=0, collision=0)
UNSUPERVISED = {"touch", "collision", "depth", "deformation_wild"}


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    return Bodies(load_body("free-hand", "free"), load_body("free-head", "free"))


@pytest.fixture(scope="module")
def batch(bodies: Bodies) -> Batch:
    return make_batch(bodies)


def run(bodies: Bodies, config: LossConfig, batch: Batch, output: DiceOutput, **options) -> dict[str, torch.Tensor]:  # type: ignore[no-untyped-def]
    return Objective(bodies, config)(output, pose_output(output, bodies), make_targets(batch, bodies), **options)


def wild(batch: Batch) -> Batch:
    no = torch.zeros(len(batch), dtype=torch.bool)
    return replace(batch, has_mesh=no, has_contact=no, has_deformation=no)


def bare(batch: Batch) -> Batch:
    """No label of any kind."""
    return replace(
        wild(batch),
        face_keypoints_2d=torch.zeros_like(batch.face_keypoints_2d),
        hand_keypoints_2d=torch.zeros_like(batch.hand_keypoints_2d),
        keypoint_depth=torch.zeros_like(batch.keypoint_depth),
        depth_kind=torch.full_like(batch.depth_kind, -1),
    )


def test_a_perfect_prediction_costs_nothing(bodies: Bodies, batch: Batch) -> None:
    terms = run(bodies, LossConfig(APART), batch, perfect(batch, bodies))
    worst = run(bodies, LossConfig(APART), batch, noisy(perfect(batch, bodies), 0.05))
    for name in set(terms) - UNSUPERVISED:
        reads_off_mesh = name.startswith("keypoints") and not name.endswith("parametric")
        assert terms[name] < (0.5 if reads_off_mesh else 2e-2), name  # the hand's regressor is 0.2 mm off
        assert worst[name] > 20 * terms[name], name
    assert terms["deformation_wild"] == 0


def test_a_perfect_prediction_of_labels_in_decafs_convention(bodies: Bodies) -> None:
    """The labels turn about the centroid; a network of another convention says the same head in its own words."""
    batch = make_batch(bodies, decaf=True)
    decaf = Bodies(load_body("free-hand", "decaf"), load_body("free-head", "decaf"))
    tips = make_targets(batch, decaf).hand.keypoints - make_targets(batch, bodies).hand.keypoints
    assert tips.norm(dim=-1).amax() > 0.003  # other finger tips, so 2D labels must be made again
    batch = make_batch(decaf, decaf=True)
    terms = run(decaf, LossConfig(APART), batch, perfect(batch, decaf))
    for name in set(terms) - UNSUPERVISED:
        assert terms[name] < 0.6, name
    truth = make_targets(batch, bodies)
    neck, jaw, eyes = truth.head.pose.split((3, 3, 6), 1)
    assert torch.equal(jaw, batch.head.pose[:, 3:6]) and not neck.any() and not eyes.any()  # Decaf leaves them at rest
    about_centroid = bodies.head_decaf(batch.head.betas, batch.head.pose[:, :6], batch.head.global_orient,
                                       batch.head.transl, batch.head.expression)  # fmt: skip
    expected = about_centroid.vertices - about_centroid.vertices.mean(1, keepdim=True)
    assert torch.allclose(truth.head.vertices[0], expected, atol=1e-6)


def test_targets_mean_what_they_say(bodies: Bodies, batch: Batch) -> None:
    truth = make_targets(batch, bodies)
    assert truth.head.vertices[0].mean(1).abs().amax() < 1e-6
    out = bodies.head_plain(batch.head.betas, batch.head.pose, batch.head.global_orient, batch.head.transl,
                            batch.head.expression)  # fmt: skip
    offset = (bodies.hand(batch.hand.betas, batch.hand.pose, batch.hand.global_orient, batch.hand.transl).vertices
              - out.vertices.mean(1, keepdim=True))  # fmt: skip
    assert torch.allclose(truth.hand.vertices[0], offset, atol=1e-6)
    # deformed = posed, with d added before global_orient, as the label has it
    still = bodies.head_plain(batch.head.betas, batch.head.pose, None, None, batch.head.expression)
    turn, root = out.rigid[:, :3, :3], still.joints[:, :1]
    deformed = (still.vertices + batch.head_deformation - root) @ turn.mT + root + batch.head.transl[:, None]
    mine = truth.head.vertices[0] - truth.deformation[0] + out.vertices.mean(1, keepdim=True)
    assert torch.allclose(mine, deformed, atol=1e-5)
    assert [level.shape[1] for level in truth.head.contact] == [4344, 1675, 559]
    assert [level.shape[1] for level in truth.hand.vertices] == [1609, 195]
    coarse = bodies.head.levels[1].keep
    assert torch.equal(truth.head.contact[2], batch.head_contact[:, coarse])
    none = replace(batch, hand_contact=0 * batch.hand_contact, head_contact=0 * batch.head_contact)
    assert make_targets(none, bodies).presence.tolist() == [0, 0, 0]
    assert truth.presence.tolist() == [1, 1, 1]


def test_posed_projects_as_the_network_does(bodies: Bodies, batch: Batch) -> None:
    output = noisy(perfect(batch, bodies))
    moved = replace(output, camera_origin=output.head.vertices[0].mean(1))
    posed = pose_output(moved, bodies)
    assert torch.allclose(posed.hand.np_keypoints_pixels, moved.project(moved.hand.keypoints), atol=1e-3)
    world = Bodies(bodies.hand, bodies.head, "world")
    far = replace(output, camera_origin=torch.zeros(3, 3))
    assert torch.allclose(pose_output(far, world).head.np_keypoints_pixels, far.project(far.head.keypoints), atol=1e-3)


SILENT = {
    "wild": ("vertices", "vertices_parametric", "keypoints_3d", "keypoints_3d_parametric", "parameters", "contact",
             "presence", "deformation"),
    "bare": ("keypoints_2d_hand", "keypoints_2d_head", "keypoints_2d_hand_parametric", "keypoints_2d_head_parametric",
             "depth", "vertices", "contact"),
    "studio": ("deformation_wild", "depth"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("form", ["silog", "affine", "robust-affine", "ordinal"])
def test_missing_labels_are_exactly_nothing(bodies: Bodies, batch: Batch, kind: str, form: str) -> None:
    changed = {"wild": wild(batch), "bare": bare(batch), "studio": batch}[kind]
    output = noisy(perfect(batch, bodies))
    weights = LossWeights() if form == "silog" else APART  # which know nothing of the form
    config = LossConfig(weights, depth=DepthLossConfig(form=form))  # type: ignore[arg-type]
    terms = run(bodies, config, changed, output)
    assert all(torch.isfinite(value) for value in terms.values())
    for name in SILENT[kind]:
        assert terms[name] == 0, name
    leaves = list(output.flatten().values())
    silent = torch.stack([terms[name] for name in SILENT[kind]]).sum()
    for gradient in torch.autograd.grad(silent, leaves, retain_graph=True, allow_unused=True):
        assert gradient is None or not gradient.any()
    for gradient in torch.autograd.grad(torch.stack(list(terms.values())).sum(), leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()
    if kind == "wild":
        assert terms["depth"] > 0
        assert terms["keypoints_2d_hand"] > 0


def test_two_ranks_are_one_with_both_batches(bodies: Bodies) -> None:
    """Labels unevenly spread: gradients averaged over ranks are those of one process with all samples."""
    whole = make_batch(bodies, 4)
    mesh = torch.tensor([True, True, True, False])
    whole = replace(whole, has_mesh=mesh, has_contact=mesh, has_deformation=mesh)
    output = noisy(perfect(whole, bodies))
    leaves = output.flatten()
    objective = Objective(bodies)
    terms = objective(output, pose_output(output, bodies), make_targets(whole, bodies))
    together = torch.autograd.grad(sum(terms.values()), list(leaves.values()), allow_unused=True)

    slices = [slice(0, 2), slice(2, 4)]
    parts = [DiceOutput.unflatten({k: v[s] for k, v in leaves.items()}) for s in slices]
    truths = [make_targets(_rows(whole, s), bodies) for s in slices]
    counts: list[torch.Tensor] = []
    for part, truth in zip(parts, truths, strict=True):
        objective(part, pose_output(part, bodies), truth, reduce_counts=lambda _, c: counts.append(c) or c)
    mean = torch.stack(counts).mean(0)
    ranks = [
        objective(part, pose_output(part, bodies), truth, reduce_counts=lambda _, __: mean)
        for part, truth in zip(parts, truths, strict=True)
    ]
    assert ranks[1]["vertices"] > 0
    for name, value in terms.items():
        assert torch.allclose((ranks[0][name] + ranks[1][name]) / 2, value, rtol=1e-5), name
    average = sum(sum(rank.values()) for rank in ranks) / 2
    for a, b in zip(torch.autograd.grad(average, list(leaves.values()), allow_unused=True), together, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def _rows(batch: Batch, rows: slice) -> Batch:
    def cut(owner):  # type: ignore[no-untyped-def]
        changed = {}
        for field in fields(owner):
            value = getattr(owner, field.name)
            changed[field.name] = cut(value) if isinstance(value, BodyLabels) else value[rows]
        return replace(owner, **changed)

    return cut(batch)


def test_weights_and_starts(bodies: Bodies, batch: Batch) -> None:
    output = noisy(perfect(batch, bodies))
    weights = LossWeights(contact=150, touch=0, collision=0, depth=0)
    twice = replace(weights, contact=LossWeights().contact)
    base, half = (run(bodies, LossConfig(chosen), batch, output) for chosen in (twice, weights))
    assert torch.allclose(2 * half["contact"], base["contact"])
    assert not {"touch", "collision", "depth"} & set(half)
    late = LossConfig(starts=LossStarts(touch=3, collision=3, depth=3))
    before, after = (run(bodies, late, wild(batch), output, step=step) for step in (2, 3))
    everything = run(bodies, LossConfig(), wild(batch), output)
    for name in ("touch", "collision", "depth"):
        assert before[name] == 0 and torch.equal(after[name], everything[name])
    assert everything["depth"] > 0
    with pytest.raises(ValueError, match="touch"):
        LossWeights(touch=-1)


FAULTY = DepthLossConfig(form="silog", samples="all")


@pytest.fixture(scope="module")
def doubted(batch: Batch) -> Batch:
    """Every second keypoint is hardly trusted."""
    labels = batch.face_keypoints_2d.clone(), batch.hand_keypoints_2d.clone()
    for label in labels:
        label[:, ::2, 2] = 0.1
    return replace(batch, face_keypoints_2d=labels[0], hand_keypoints_2d=labels[1])


@pytest.fixture(scope="module")
def without_faults(bodies: Bodies, doubted: Batch) -> dict[str, torch.Tensor]:
    return run(bodies, LossConfig(depth=FAULTY), doubted, noisy(perfect(doubted, bodies)))


@pytest.mark.parametrize("fault", [field.name for field in fields(Faults)])
def test_each_fault_changes_what_it_says(
    bodies: Bodies, doubted: Batch, without_faults: dict[str, torch.Tensor], fault: str
) -> None:
    touched = {
        "centring": {"vertices", "vertices_parametric", "keypoints_3d", "keypoints_3d_parametric"},
        "joint_orders": {"keypoints_3d", "keypoints_2d_hand"},
        "collision_index": {"collision"},
        "depth_corner": {"depth"},
        "depth_transposed": {"depth"},
        "confidence_ignored": {f"keypoints_2d_{part}" for part in ("hand", "head", "hand_parametric", "head_parametric")},
    }  # fmt: skip
    config = LossConfig(depth=FAULTY, faults=Faults(**{fault: True}))
    wrong = run(bodies, config, doubted, noisy(perfect(doubted, bodies)))
    right = without_faults
    assert {name for name in right if not torch.equal(right[name], wrong[name])} == touched[fault]


def test_paper_released_is_all_faults_and_forms(bodies: Bodies, batch: Batch) -> None:
    config = LossConfig(paper_released=True, stiffness=True, contact="balanced").resolved()
    assert config.faults == Faults.all()
    assert (config.depth.form, config.distances, config.of, config.touch_head, config.contact, config.stiffness) == (
        "silog", "squared", "parametric", "undeformed", "plain", False)  # fmt: skip
    terms = run(bodies, LossConfig(paper_released=True), wild(batch), noisy(perfect(batch, bodies)))
    assert all(torch.isfinite(value) for value in terms.values())


def test_options_change_their_term_only(bodies: Bodies, batch: Batch) -> None:
    output = noisy(perfect(batch, bodies))
    base = run(bodies, LossConfig(), batch, output)
    for config, name in (
        (LossConfig(stiffness=True), "deformation"),
        (LossConfig(contact="balanced"), "contact"),
        (LossConfig(touch_head="undeformed"), "touch"),
        (LossConfig(distances="squared"), "touch collision"),
        (LossConfig(of="parametric"), "touch collision"),
    ):
        other = run(bodies, config, batch, output)
        assert {key for key in base if not torch.equal(base[key], other[key])} == set(name.split())
    no_map = Bodies(bodies.hand, load_body("free-head", "free"))
    no_map.head.stiffness = None
    with pytest.raises(ValueError, match="stiffness"):
        Objective(no_map, LossConfig(stiffness=True))


def test_a_prediction_in_bfloat16_is_judged_in_float32(bodies: Bodies, batch: Batch) -> None:
    flat = perfect(batch, bodies).flatten()
    output = DiceOutput.unflatten({name: value.bfloat16() for name, value in flat.items()})
    terms = run(bodies, LossConfig(), batch, output)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in terms.values())


def as_kind(depth: torch.Tensor, kind: str) -> torch.Tensor:
    """Metres (B, 89) as a depth network of some kind, scale and shift would give them."""
    if kind == "affine-per-part":
        return torch.cat([2 * depth[:, :68] + 1, 9 * depth[:, 68:] - 4], 1)
    return {"metric": depth, "affine": 3 * depth - 7, "affine-inverse": 5 / depth + 2}[kind]


@pytest.mark.parametrize("at", ["keypoint", "surface"])
@pytest.mark.parametrize("kind", DEPTH_KINDS)
def test_depth_of_every_kind_is_learned_from_wild_samples(bodies: Bodies, batch: Batch, kind: str, at: str) -> None:
    """The right prediction costs (almost) nothing whatever the depth network's scale and shift; a flipped one costs much."""
    depth = batch.keypoint_depth[..., 0]
    if at == "surface":
        truth = make_targets(batch, bodies)
        keypoints = torch.cat([truth.head.keypoints, truth.hand.keypoints], 1)
        both = torch.cat([truth.hand.vertices[0], truth.head.vertices[0]], 1)
        depth, hit = front_depth(keypoints[..., :2], both, Objective(bodies).both_faces)
        assert (depth <= keypoints[..., 2] + 1e-3)[hit].all()  # the surface hides the point or carries it
        assert hit.float().mean() > 0.9
        depth = depth + 1
    value = as_kind(depth, kind)
    labelled = replace(
        wild(batch),
        keypoint_depth=torch.stack([value, torch.ones_like(value)], -1),
        depth_kind=torch.full_like(batch.depth_kind, DEPTH_KINDS.index(kind)),
    )
    output = perfect(batch, bodies)
    flipped = replace(labelled, keypoint_depth=labelled.keypoint_depth * torch.tensor([-1.0, 1.0]))
    for form in ("affine", "robust-affine", "ordinal"):
        config = LossConfig(APART, of="parametric", depth=DepthLossConfig(form=form, at=at))  # type: ignore[arg-type]
        right, wrong = (run(bodies, config, b, output)["depth"] for b in (labelled, flipped))
        assert right < 0.02
        assert wrong > 1


@pytest.mark.parametrize("of", ["parametric", "drawn"])
def test_depth_moves_the_mesh_it_is_read_from(bodies: Bodies, batch: Batch, of: str) -> None:
    """The posed bodies by way of their parameters, or the drawn vertices; and not the other."""
    batch, output = wild(batch), noisy(perfect(batch, bodies))
    run(bodies, LossConfig(APART, of=of), batch, output)["depth"].backward()  # type: ignore[arg-type]
    moved = {name for name, value in output.flatten().items() if value.grad is not None and value.grad.abs().max() > 0}
    drawn, posed = {"hand_vertices_0", "head_vertices_0"}, {"hand_global_orient", "hand_transl", "head_global_orient"}
    right, wrong = (drawn, posed) if of == "drawn" else (posed, drawn)
    assert right <= moved and not wrong & moved


@pytest.mark.parametrize("of", ["parametric", "drawn"])
def test_touch_and_collision_move_the_mesh_they_are_read_from(bodies: Bodies, batch: Batch, of: str) -> None:
    output = noisy(perfect(batch, bodies))
    terms = run(bodies, LossConfig(of=of), batch, output)  # type: ignore[arg-type]
    (terms["touch"] + terms["collision"]).backward()
    moved = {name for name, value in output.flatten().items() if value.grad is not None and value.grad.abs().max() > 0}
    drawn, posed = {"hand_vertices_0", "head_vertices_0"}, {"hand_global_orient", "hand_transl", "head_global_orient"}
    right, wrong = (drawn, posed) if of == "drawn" else (posed, drawn)
    assert right <= moved and not wrong & moved


@pytest.mark.parametrize("depth", [0.002, 0.01, 0.02])
def test_collision_pushes_harder_than_touch_pulls(bodies: Bodies, depth: float) -> None:
    """A hand whose touching vertices are all inside is moved out, however deep it is."""
    batch = make_batch(bodies)
    output = perfect(batch, bodies)
    head = output.head.vertices[0].detach()
    hand = output.hand.vertices[0].detach()
    near = torch.cdist(hand, head).amin(2).argmin(1)  # the hand vertex next to the head
    anchor = hand[torch.arange(len(hand)), near]
    target = head[torch.arange(len(hand)), torch.cdist(anchor[:, None], head)[:, 0].argmin(1)]
    inwards = torch.nn.functional.normalize(head.mean(1) - target, dim=1)
    shift = (target - anchor + depth * inwards)[:, None].requires_grad_(True)
    moved = DiceOutput.unflatten(output.flatten() | {"hand_vertices_0": hand + shift, "head_vertices_0": head})
    terms = run(bodies, LossConfig(), batch, moved)
    (push,) = torch.autograd.grad(terms["collision"], shift, retain_graph=True)
    (pull,) = torch.autograd.grad(terms["touch"], shift)
    assert (push.norm(dim=-1) > pull.norm(dim=-1)).all()
    assert ((-push[:, 0] * inwards).sum(1) < 0).all()  # downhill is out
