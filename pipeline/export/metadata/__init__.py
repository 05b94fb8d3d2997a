"""What describes a release beside its shards: index, card, Croissant, COCO."""
