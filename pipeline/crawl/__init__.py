"""The crawl as stages on the engine: rounds of units, planned so that each host has one worker."""
