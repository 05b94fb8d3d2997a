"""Photos in a folder -> labelled shards and a report.

python examples/annotate_folder.py photos out/parts
"""

import sys

from handface.jobs import annotate, report


def main(photos: str, output: str) -> int:
    """Annotate in this process, then draw the report beside the parts. Returns the exit code."""
    code = annotate.run(annotate.Config(input=(photos,), output=output, local=True))
    return code or report.run(report.Config(parts=(output,), output=f"{output}/report.html"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
