"""Pictures of predictions: in the right place, in the right colours, never without the banner when untrained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from handface.model.outputs import OverlayConfig, draw_contact_map, draw_overlay
from handface.model.outputs.colours import HAND, HEAD, PROBABILITY
from handface.model.prediction.prediction import Prediction, WeakCamera
from tests.model.outputs.synthetic import picture, prediction, scene


def share_of(image: np.ndarray, colour: tuple[int, int, int], within: float = 60) -> np.ndarray:
    """Where the picture has this hue: directions in RGB, whatever the light."""
    wanted = np.array(colour, float) - np.mean(colour)
    chroma = image.astype(float) - image.mean(-1, keepdims=True)
    cosine = (chroma @ wanted) / (np.linalg.norm(chroma, axis=-1) * np.linalg.norm(wanted) + 1e-9)
    return (cosine > 0.9) & (np.linalg.norm(chroma, axis=-1) > 12)


def test_the_meshes_lie_on_the_people_they_were_made_from():
    image, found = picture(3), prediction(3)
    plain = draw_overlay(image, found, OverlayConfig(opacity=1.0))
    changed = (plain != image).any(-1)
    made = scene(3)
    person = np.isin(
        made.picture.mesh, [k for k, name in enumerate(made.dressed.names) if name in ("hand", "head", "skin")]
    )
    assert plain.shape == image.shape and changed.any()
    camera = found.persons[0].camera
    points = camera.project(np.concatenate([found.persons[0].hand.vertices, found.persons[0].head.vertices]))
    x, y = np.clip(np.rint(points).astype(int), 0, 255).T
    assert changed[y, x].mean() > 0.97
    assert changed[person].mean() > 0.6


def test_hand_head_and_contact_have_their_own_colours():
    blank = np.full((256, 256, 3), 128, np.uint8)
    drawn = draw_overlay(blank, prediction(3), OverlayConfig(opacity=1.0))
    hand, head = (share_of(drawn, ramp.stops[0]).sum() for ramp in (HAND, HEAD))
    assert hand > 500 and head > 4000 and head > hand
    one = prediction(3).persons[0]
    touched = replace(one, head=replace(one.head, contact=np.ones_like(one.head.contact)))
    red = draw_overlay(blank, replace(prediction(3), persons=(touched,)), OverlayConfig(opacity=1.0))
    assert share_of(red, HEAD.stops[-1]).sum() > 4000 > 50 > share_of(red, HEAD.stops[0]).sum()


def test_opacity_mixes_linearly_and_zero_is_the_photo():
    image, found = picture(3), prediction(3)
    none, half, full = (draw_overlay(image, found, OverlayConfig(opacity=share)).astype(int) for share in (0, 0.5, 1))
    assert (none == image).all()
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_large_photos_are_drawn_smaller_in_the_same_place():
    image, found = picture(3), prediction(3)
    large = np.kron(image, np.ones((4, 4, 1), np.uint8))
    camera = found.persons[0].camera
    grown = WeakCamera(4 * camera.scale, 4 * camera.tx + 1.5, 4 * camera.ty + 1.5)
    again = Prediction((replace(found.persons[0], camera=grown),), 1024, 1024, True)
    small = draw_overlay(large, again, OverlayConfig(max_side=256))
    assert small.shape == image.shape
    assert np.abs(small.astype(int) - draw_overlay(image, found).astype(int)).mean() < 0.5


@pytest.mark.parametrize("width", [48, 256, 3000])
def test_untrained_pictures_carry_the_banner_at_every_size(width):
    image = np.zeros((40, width, 3), np.uint8)
    drawn = draw_overlay(image, Prediction((), width, 40, False, "nobody"))
    trained = draw_overlay(image, Prediction((), width, 40, True))
    assert not trained.any() and not drawn[-len(trained) :].any()
    strip = drawn[: -len(trained)]
    assert len(strip) >= 16 and (strip[..., 0] > 150).mean() > 0.9 and (strip[0, :, 1] == 0).all()
    assert (strip.min(-1) > 100).any()  # white letters


def test_the_contact_map_shows_contact_and_deformation():
    person = prediction(3).persons[0]
    drawn = draw_contact_map(person, trained=True, cell=128)
    views = np.split(drawn, 5, axis=1)
    touching = [share_of(view[:128], PROBABILITY.stops[-1]).sum() for view in views]
    assert touching[2] > 20  # the hand's far side touches
    assert touching[1] < touching[2] and touching[3] == 0
    clean = replace(person, hand=replace(person.hand, contact=np.zeros_like(person.hand.contact)))
    without = np.split(draw_contact_map(clean, trained=True, cell=128), 5, axis=1)
    assert share_of(without[2][:128], PROBABILITY.stops[-1]).sum() == 0
    assert (views[3] != without[3]).sum() == 0


def test_a_colour_of_deformation_means_the_same_on_every_photo():
    person = prediction(3).persons[0]

    def darkest(millimetres: float) -> int:
        moved = np.zeros_like(person.head.deformation)
        moved[:, 2] = millimetres / 1000
        drawn = draw_contact_map(replace(person, head=replace(person.head, deformation=moved)), trained=True, cell=128)
        view = np.split(drawn, 5, axis=1)[3][:128].astype(int)
        return int(view[40:60, 54:74].sum(-1).mean())  # the middle of the face

    shown = [darkest(size) for size in (0.0, 1.0, 5.0, 10.0, 20.0)]
    assert shown[0] > shown[1] > shown[2] > shown[3] == shown[4]


def test_an_untrained_contact_map_has_the_banner():
    person = prediction(3).persons[0]
    with_strip, without = (draw_contact_map(person, trained, cell=96) for trained in (False, True))
    rows = len(with_strip) - len(without)
    assert rows > 10 and (with_strip[rows:] == without).all() and (with_strip[:rows, :, 0] > 150).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e4])
def test_meshes_gone_wild_are_said_in_words_not_drawn(broken):
    found, image = prediction(3), picture(3)
    rng = np.random.default_rng(0)
    head = found.persons[0].head
    wild = replace(head, vertices=(broken * rng.normal(size=head.vertices.shape)).astype(np.float32))
    drawn = draw_overlay(image, replace(found, persons=(replace(found.persons[0], head=wild),)))
    assert drawn.shape == image.shape
    changed = (drawn != image).any(-1)
    assert changed.any() and not changed[:200].any()
    assert draw_contact_map(replace(found.persons[0], head=wild), trained=True, cell=96).shape[1] == 5 * 96


def test_another_photo_is_refused():
    with pytest.raises(ValueError, match="the photo is 10x20, the prediction of 256x256"):
        draw_overlay(np.zeros((20, 10, 3), np.uint8), prediction(3))
