"""The report as JSON: the content of best.json, the texts of the sections, and the numbers."""

import json
from typing import Any

from autotuner.codec import to_json
from autotuner.export.content import export_of
from autotuner.export.formats import render_json
from autotuner.report.sections import sections
from autotuner.study.record import TrialRecord
from autotuner.verdict.result import Result

SCHEMA = 2


def render_report_json(result: Result) -> str:
    """Return everything that the other formats show, as numbers where there are any."""
    facts = result.facts
    document = {
        "schema": SCHEMA,
        "best": json.loads(render_json(export_of(result, anyway=False))),
        "sections": {one.name: list(one.lines) for one in sections(result, draw=False)},
        "space": {name: list(map(str, d.values())) for name, d in facts.space.domains.items()},
        "liveness": to_json(facts.liveness),
        "noise": to_json(result.noise),
        "diagnosis": to_json(result.diagnosis),
        "effects": to_json(result.effects),
        "trials": [_trial(record) for record in result.records],
    }
    return json.dumps(document, indent=2) + "\n"


def _trial(record: TrialRecord) -> dict[str, Any]:
    return {**to_json(record), "state": record.state.name.lower()}
