"""The report as JSON: the content of best.json, and everything behind it."""

import dataclasses
import json
from typing import Any

from autotuner.export.formats import render_json
from autotuner.report.contents import Contents
from autotuner.study.record import TrialRecord

SCHEMA = 1


def render_report_json(contents: Contents) -> str:
    """Return everything that the other formats say, as numbers."""
    facts = contents.facts
    document = {
        "schema": SCHEMA,
        "best": json.loads(render_json(contents.export)),
        "space": {name: list(map(str, d.values())) for name, d in facts.space.domains.items()},
        "liveness": [dataclasses.asdict(one) for one in facts.liveness],
        "noise": None if contents.noise is None else dataclasses.asdict(contents.noise),
        "diagnosis": None if contents.diagnosis is None else dataclasses.asdict(contents.diagnosis),
        "effects": [dataclasses.asdict(one) for one in contents.effects],
        "trials": [_trial(record) for record in contents.records],
    }
    return json.dumps(document, indent=2) + "\n"


def _trial(record: TrialRecord) -> dict[str, Any]:
    fields = dataclasses.asdict(record)
    fields["state"] = record.state.name.lower()
    for name in ("started", "ended"):
        moment = fields[name]
        fields[name] = None if moment is None else moment.isoformat()
    return fields
