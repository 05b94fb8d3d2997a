"""Everything that decides the bytes of the parts, and the run record that keeps it beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from handface.pipeline.contract.config import BaseConfig, Count
from handface.pipeline.contract.images.picture import DecodeConfig
from handface.pipeline.engine.stage import Stage
from handface.pipeline.sources.base import SourceConfig
from handface.pipeline.stages.contact_evidence import ContactConfig
from handface.pipeline.stages.crop import CropConfig
from handface.pipeline.stages.depth import DepthConfig
from handface.pipeline.stages.detect import DetectConfig
from handface.pipeline.stages.filters.dedupe import DedupeConfig
from handface.pipeline.stages.filters.nsfw import NsfwConfig
from handface.pipeline.stages.filters.quality import QualityConfig
from handface.pipeline.stages.fit import FitStageConfig
from handface.pipeline.stages.keypoints import KeypointsConfig
from handface.pipeline.stages.pack import PackConfig
from handface.pipeline.stages.read import ReadConfig


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(BaseConfig):
    """One nested config per stage. Numbers of workers and other things that leave the bytes alone are not here."""

    unit_size: Count = 128
    """Inputs per work unit, hence per part."""
    sources: SourceConfig = field(default_factory=SourceConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    dedupe: DedupeConfig = field(default_factory=DedupeConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    nsfw: NsfwConfig = field(default_factory=NsfwConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    keypoints: KeypointsConfig = field(default_factory=KeypointsConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    fit: FitStageConfig = field(default_factory=FitStageConfig)

    def __post_init__(self) -> None:
        if self.unit_size < 1:
            raise ValueError(f"unit_size is {self.unit_size}; a unit needs at least one input")


def build_stages(config: AnnotateConfig, day: str) -> list[Stage]:
    """The stages in order. day: UTC day of the run, stored with what is fetched from the web."""
    from handface.pipeline.stages.contact import ContactStage
    from handface.pipeline.stages.crop import CropStage
    from handface.pipeline.stages.decode import DecodeStage
    from handface.pipeline.stages.depth import DepthStage
    from handface.pipeline.stages.detect import DetectStage
    from handface.pipeline.stages.filters.dedupe import DedupeStage
    from handface.pipeline.stages.filters.nsfw import NsfwStage
    from handface.pipeline.stages.filters.quality import QualityStage
    from handface.pipeline.stages.fit import FitStage
    from handface.pipeline.stages.keypoints import KeypointsStage
    from handface.pipeline.stages.pack import PackStage
    from handface.pipeline.stages.read import ReadStage

    stages: list[Stage] = [
        ReadStage(config.read),
        DecodeStage(config.decode),
        DedupeStage(config.dedupe),
        QualityStage(config.quality),
        NsfwStage(config.nsfw),
        DetectStage(config.detect),
        ContactStage(config.contact),
        KeypointsStage(config.keypoints),
        CropStage(config.crop),
        DepthStage(config.depth),
        PackStage(config.pack, fetched_at=day),
    ]
    return [*stages, FitStage(config.fit)] if config.fit.model is not None else stages
