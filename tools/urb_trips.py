"""Convert the drivers of the Urban Routing Benchmark to trips of SUMO, for `relid-sumo train NET.net.xml --routes`.

    python tools/urb_trips.py AGENTS.csv OD.txt OUT.trips.xml

AGENTS.csv has the columns id, start_time (s), origin and destination (indices); OD.txt is a Python literal with lists
of edges, `origins` and `destinations`.
"""

from __future__ import annotations

import argparse
import ast
import csv
from pathlib import Path
from xml.sax.saxutils import quoteattr


def trips(agents: Path, od: Path) -> str:
    """Return a trip file of SUMO with one trip for each driver, by departure."""
    ends = ast.literal_eval(od.read_text(encoding="utf-8"))
    with agents.open(encoding="utf-8", newline="") as stream:
        drivers = sorted(csv.DictReader(stream), key=lambda row: (float(row["start_time"]), int(row["id"])))
    lines = [
        f"    <trip id={quoteattr('driver' + row['id'])} depart={quoteattr(row['start_time'])} "
        f"from={quoteattr(ends['origins'][int(row['origin'])])} "
        f"to={quoteattr(ends['destinations'][int(row['destination'])])}/>\n"
        for row in drivers
    ]
    return f"<routes>\n{''.join(lines)}</routes>\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("agents", "od", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    given.out.write_text(trips(given.agents, given.od), encoding="utf-8")


if __name__ == "__main__":
    main()
