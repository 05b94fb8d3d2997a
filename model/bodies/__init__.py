"""Parametric hand and head models behind one interface. Start reading at body.py."""

from model.bodies.arrays import BodyArrays, BodyFileError
from model.bodies.attachment import Attachment, load_attachment
from model.bodies.body import BodyOutput, ParametricBody
from model.bodies.convention import DECAF, FREIHAND, SMPLX, Convention
from model.bodies.load import load_arrays, load_body

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
