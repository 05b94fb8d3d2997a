"""Croissant 1.1 (docs.mlcommons.org/croissant): the dataset's machine-readable description as JSON-LD."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from handface.pipeline.export.metadata.index import UNKNOWN

if TYPE_CHECKING:
    from handface.pipeline.export.manifest import Release
    from handface.pipeline.export.metadata.index import Figures

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FIELDS = {
    "key": ("sc:Text", "Name shared by the sample's members: first 16 hex of the picture's sha256."),
    "split": ("sc:Text", "train, validation or test."),
    "shard": ("sc:Text", "Tar that holds the sample."),
    "uri": ("sc:Text", "Where the picture comes from."),
    "licence": ("sc:Text", "Licence of the picture, as its source states it."),
    "author": ("sc:Text", "Author, as the source states it."),
    "contact": ("sc:Float", "Confidence that the hand touches the face."),
}
_URLS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}


def croissant(made: Release, figures: Figures) -> bytes:
    """The JSON-LD document of a release; every file with its size and checksum, and the index as a record set."""
    shards = [name for name, info in made.files.items() if info.samples]
    found = [name for name, _ in figures.licences]
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{info.bytes} B",
            "encodingFormat": _format(name),
            "sha256": info.sha256,
        }
        for name, info in made.files.items()
    ]
    distribution.append(
        {
            "@type": "cr:FileSet",
            "@id": "pictures",
            "name": "pictures",
            "description": "The square crops, one JPEG per sample.",
            "containedIn": [{"@id": name} for name in shards],
            "encodingFormat": "image/jpeg",
            "includes": "*.jpg",
        }
    )
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": made.name,
        "description": made.config.get("description")
        or "Pictures of hands at faces with keypoints, depth and 3D labels.",
        "version": f"{made.revision}.0.0",
        "license": [_URLS.get(name, name) for name in found if name != UNKNOWN] or [UNKNOWN],
        "url": ".",
        "distribution": distribution,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "key": {"@id": "samples/key"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"samples/{name}",
                        "name": name,
                        "description": description,
                        "dataType": kind,
                        "source": {"fileObject": {"@id": "index.parquet"}, "extract": {"column": name}},
                    }
                    for name, (kind, description) in _FIELDS.items()
                ],
            }
        ],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _format(name: str) -> str:
    endings = {
        ".tar": "application/x-tar",
        ".parquet": "application/x-parquet",
        ".csv": "text/csv",
        ".md": "text/markdown",
    }
    return next((kind for ending, kind in endings.items() if name.endswith(ending)), "application/octet-stream")
