"""Images to labelled shards: sources, stages, annotators, parts. Start reading at graph.py."""
