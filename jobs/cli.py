"""The dispatcher: `handface VERB ...` runs `jobs/VERB.py`, whose dataclass `Config` becomes the flags.

The verb table is static and nothing heavy is imported before a verb is chosen, so `handface --help` is instant.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import handface
from handface.jobs.shared.messages import QUIET, VERBOSE

DEBUG_VARIABLE = "HANDFACE_DEBUG"  # 1: tracebacks
_USAGE_ERROR, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141


@dataclass(frozen=True)
class Verb:
    """One line of the verb table; `jobs/<name>.py` does the work."""

    name: str
    group: str
    summary: str
    example: str  # without the leading `handface`


VERBS = (
    Verb("demo", "Start here", "run everything on pictures that come with the packages", "demo --output out/demo"),
    Verb(
        "rehearse",
        "Start here",
        "crawl, annotate and export on a local cluster of several nodes, one of which is killed",
        "rehearse --output out/rehearsal",
    ),
    Verb("doctor", "Start here", "check this machine and say how to fix what is missing", "doctor"),
    Verb("models", "Set up", "list, fetch and verify the networks' weights", "models pull"),
    Verb("bodies", "Set up", "build or import hand and head models, show what is in one", "bodies info free-hand"),
    Verb("weights", "Set up", "convert, describe and export network weights", "weights info out/dice"),
    Verb(
        "crawl",
        "Make data",
        "fetch images from URL lists, pages, sitemaps and open collections, politely",
        "crawl --input urls.parquet --contact you@example.org --output out/crawl",
    ),
    Verb(
        "annotate",
        "Make data",
        "photos, lists, tars or videos in, labelled shards out",
        "annotate --input photos/ --output out/parts",
    ),
    Verb(
        "decaf-to-shards",
        "Make data",
        "turn Decaf, or a dataset in its layout, into the same shards",
        "decaf-to-shards --decaf DecafDataset --output out/decaf",
    ),
    Verb(
        "synthesize",
        "Make data",
        "render scenes of a hand at a face with exact 3D labels, in the same shards",
        "synthesize --count 1000 --output out/synthetic",
    ),
    Verb(
        "dedupe",
        "Make data",
        "find copies across parts and runs, and write them down",
        "dedupe out/parts --output duplicates.parquet",
    ),
    Verb(
        "priors",
        "Make data",
        "real hand and face parameters for the adversarial priors, as one small file",
        "priors FreiHAND_pub_v2 --output out/freihand.safetensors",
    ),
    Verb(
        "train",
        "Train",
        "train the network on shards; the same command continues a run that was stopped",
        "train --preset dice-nano --train out/synthetic --wild out/parts --validation out/validation --output out/run",
    ),
    Verb(
        "evaluate",
        "Measure",
        "the paper's table for a network on labelled shards, with intervals, baselines and worst cases",
        "evaluate out/test --model out/dice --train out/train",
    ),
    Verb(
        "export",
        "Publish",
        "a dataset to publish: shuffled shards, splits, index, card, licences, checksums",
        "export out/parts --output out/dataset",
    ),
    Verb(
        "recheck",
        "Make data",
        "ask every site again before training, and list what may not be used any more",
        "recheck out/parts --contact you@example.org --output excluded.parquet",
    ),
    Verb(
        "takedown",
        "Publish",
        "take pictures out of an exported dataset, for good",
        "takedown out/dataset --url https://example.org/photo.jpg",
    ),
    Verb(
        "jobs",
        "On a cluster",
        "submit any verb to a Ray cluster, ask, read its log, stop it",
        "jobs submit --address http://HEAD:8265 -- annotate --input urls.parquet --output s3://bucket/parts",
    ),
    Verb("stats", "Look at data", "funnel, hosts and licences of parts or of an export", "stats out/parts"),
    Verb(
        "predict",
        "Use a network",
        "hand and head meshes, contact and deformation from photos and videos",
        "predict photos/ clip.mp4 --output out/predictions",
    ),
    Verb(
        "demo-page",
        "Use a network",
        "a local web page: drop photos or use the camera, see overlay and contact, turn the meshes in 3D",
        "demo-page --open",
    ),
    Verb("validate", "Look at data", "check every sample of shards and name what is wrong", "validate out/parts/*.tar"),
    Verb(
        "inspect-data",
        "Look at data",
        "show a training batch, mirrored and varied, with all its labels drawn",
        "inspect-data out/parts out/synthetic --output batch.png",
    ),
    Verb(
        "report",
        "Look at data",
        "one HTML page: funnel, reasons, contact sheet with labels drawn",
        "report out/parts --output report.html",
    ),
)
BY_NAME = {verb.name: verb for verb in VERBS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `handface ARGV` and return its exit code: 0 good, 1 found something wrong, 2 could not do it, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # --quiet and --verbose may stand before the verb, too
    early = list(takewhile(lambda one: one in (QUIET, VERBOSE), arguments))
    verb, *rest = arguments[len(early) :] or [""]
    if verb in ("", "-h", "--help", "help"):
        return _say(_overview()) or (0 if verb else _USAGE_ERROR)
    if verb in ("-V", "--version"):
        return _say(f"handface {handface.__version__}")
    if verb not in BY_NAME:
        print(_unknown(verb), file=sys.stderr)
        return _USAGE_ERROR
    return main_for(verb, [*early, *rest])


def main_for(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one verb with its own arguments; also the body of `python -m jobs.<verb>`. Returns the exit code."""
    # Threads that wait awake take the cores that other programs need, and slow a busy machine down many times. Read as torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    from handface.jobs.shared.arguments import parse_arguments
    from handface.jobs.shared.errors import describe_error, is_expected
    from handface.jobs.shared.messages import heartbeat, start_logging, take_level
    from handface.jobs.shared.numbers import check_numbers
    from handface.jobs.shared.outputs import check_output

    try:
        level = take_level(arguments)
        module = importlib.import_module(f"handface.jobs.{name.replace('-', '_')}")
        verb = BY_NAME[name]
        description = (module.__doc__ or verb.summary).strip()
        parsed = parse_arguments(module, f"handface {name}", description, arguments, f"handface {verb.example}")
        start_logging(level)
        if parsed.dump is not None:
            parsed.write()
            print(f"wrote {parsed.dump}")
            return 0
        check_numbers(parsed.config)
        check_output(parsed.config)
        with heartbeat(name):
            return int(module.run(parsed.config))
    except KeyboardInterrupt:
        print(f"handface {name}: interrupted; give the same command again", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        return _end_at_broken_pipe()
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) == "1" or not is_expected(error):
            raise
        print(f"handface {name}: error: {describe_error(error)}", file=sys.stderr)
        return _USAGE_ERROR


def _say(text: str) -> int:
    """Print, and return the exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _end_at_broken_pipe()
    return 0


def _end_at_broken_pipe() -> int:
    """`handface ... | head` is no error of ours; keep the interpreter from flushing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE


def _overview() -> str:
    """The text of `handface --help`: verbs by group, an example under each."""
    width = max(len(verb.name) for verb in VERBS)
    lines = [
        "usage: handface VERB ...",
        "",
        "Hand, face, their contact and the face's deformation from one photo; labelled data and training for it.",
        "",
    ]
    for group in dict.fromkeys(verb.group for verb in VERBS):
        lines.append(f"{group}:")
        for verb in VERBS:
            if verb.group == group:
                lines += [f"  {verb.name:<{width}}  {verb.summary}", f"  {'':<{width}}    $ handface {verb.example}"]
        lines.append("")
    lines += [
        "`handface VERB --help` shows the flags people use, `handface VERB --help-all` every flag.",
        "`python -m jobs.VERB` is the same, for `ray job submit`.",
        f"Every verb takes {QUIET} (warnings and errors only) or {VERBOSE}; {DEBUG_VARIABLE}=1 shows tracebacks.",
    ]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    from handface.suggest import suggest

    if name.startswith("-"):
        return f"handface: {name} belongs behind the verb: `handface VERB {name} ...` (`handface VERB --help` shows its flags)"
    return f"handface: no verb {name!r}; {suggest(name, BY_NAME, '`handface {}`')} (`handface --help`)"
