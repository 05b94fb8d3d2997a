"""The paper's metrics, and those for photos without 3D labels. Start reading at measure.py."""

from trainers.metrics.measure import Known, measure
from trainers.metrics.meshes import Meshes, predicted_meshes
from trainers.metrics.plausibility import Surface, hand_depths
from trainers.metrics.records import Records, gather
from trainers.metrics.table import BY_NAME, METRICS, BootstrapConfig, Estimate, Metric, summarise

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
    "gather",
    "hand_depths",
    "measure",
    "predicted_meshes",
    "summarise",
]
