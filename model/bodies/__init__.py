"""Parametric hand and head models behind one interface. Start reading at body.py."""

from handface.model.bodies.arrays import BodyArrays, BodyFileError
from handface.model.bodies.attachment import Attachment, load_attachment
from handface.model.bodies.body import BodyOutput, ParametricBody
from handface.model.bodies.convention import DECAF, FREIHAND, SMPLX, Convention
from handface.model.bodies.load import load_arrays, load_body

__all__ = [
    "DECAF",
    "FREIHAND",
    "SMPLX",
    "Attachment",
    "BodyArrays",
    "BodyFileError",
    "BodyOutput",
    "Convention",
    "ParametricBody",
    "load_arrays",
    "load_attachment",
    "load_body",
]
