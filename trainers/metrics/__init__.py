"""The paper's metrics, and those for photos without 3D labels. Start reading at measure.py."""

from handface.trainers.metrics.measure import Known, measure
from handface.trainers.metrics.meshes import Meshes, predicted_meshes
from handface.trainers.metrics.plausibility import Surface, hand_depths
from handface.trainers.metrics.records import Records, gather
from handface.trainers.metrics.table import BY_NAME, METRICS, BootstrapConfig, Estimate, Metric, differences, summarise

__all__ = [
    "BY_NAME",
    "METRICS",
    "BootstrapConfig",
    "Estimate",
    "Known",
    "Meshes",
    "Metric",
    "Records",
    "Surface",
    "differences",
    "gather",
    "hand_depths",
    "measure",
    "predicted_meshes",
    "summarise",
]
