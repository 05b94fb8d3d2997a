"""The hand-face filter: keeps photos in which a hand touches, or is about to touch, a face, and says whose."""

from __future__ import annotations

from collections.abc import Sequence

from handface.pipeline.annotators.landmarks import is_near
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.sample import Scores
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage
from handface.pipeline.stages.contact_evidence import ContactConfig, ContactEvidence, contact_evidence


class ContactStage(Stage):
    """Chooses the person whose hand most likely touches the face; fills face, person_hands and scores, or rejects."""

    name = "contact"
    version = 2  # the trained rule
    reads = ("faces", "hands", "skin")
    writes = ("face", "person_hands", "scores")

    def __init__(self, config: ContactConfig = ContactConfig()) -> None:
        self.config = config

    def __call__(self, batch: Sequence[Record]) -> None:
        """Judge each photo."""
        for record in batch:
            self._judge(record)
            record.skin = None if not record.alive else record.skin

    def _judge(self, record: Record) -> None:
        pairs = [
            (contact_evidence(face, hand, record.skin), face, hand) for face in record.faces for hand in record.hands
        ]
        evidence, face, hand = max(pairs, key=lambda pair: (pair[0].score(self.config), pair[0].overlap))
        score = evidence.score(self.config)
        if score < self.config.threshold:
            reason, detail = self._why_not(evidence)
            return record.reject(reason, f"contact {score:.2f}: {detail}")
        others = [other for other in record.hands if other is not hand and is_near(other, face)]
        record.face, record.person_hands = face, [hand, *sorted(others, key=lambda other: -other.score)]
        record.scores = Scores(
            contact=round(score, 4),
            proximity=round(min(1.0, max(0.0, 1 + evidence.overlap)), 4),
            occlusion=round(evidence.coverage, 4),
            face_confidence=round(face.score, 4),
            hand_confidence=round(hand.score, 4),
            agreement=None if hand.agreement is None else round(hand.agreement, 4),
            sharpness=0.0,  # measured on the crop
        )
        return None

    def _why_not(self, evidence: ContactEvidence) -> tuple[Reason, str]:
        if evidence.is_palm(self.config):
            return (
                Reason.NO_FACE,
                f"{evidence.face_in_hand:.0%} of the face lies inside the hand: a palm taken for a face",
            )
        if evidence.is_no_hand(self.config):
            return Reason.NO_HAND, f"{evidence.hand_skin:.0%} skin where the hand should be"
        if evidence.overlap >= 0 and evidence.scale_ratio > self.config.scale[1]:
            return Reason.HAND_OCCLUDES, f"the hand appears {evidence.scale_ratio:.2f}x too large to be at the face"
        if evidence.overlap >= 0:
            return (
                Reason.HAND_OCCLUDES,
                f"the hand covers {evidence.coverage:.0%} of the face and its skin ends at a gap",
            )
        return Reason.HAND_FAR, f"gap of {-evidence.overlap:.2f} face sizes"
