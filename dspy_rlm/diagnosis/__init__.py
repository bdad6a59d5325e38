"""The waste in recorded runs, and what to do about it.

for finding in dspy_rlm.diagnosis.diagnose([load(path) for path in paths]):
    print(finding.text, finding.advice)
"""

from dspy_rlm.diagnosis.findings import Finding, findings_text, proposer_text
from dspy_rlm.diagnosis.runs import diagnose, totals

__all__ = ["Finding", "diagnose", "findings_text", "proposer_text", "totals"]
