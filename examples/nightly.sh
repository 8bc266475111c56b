#!/bin/sh
# nightly.sh - convert a checkpoint, verify the file, run a suite of evaluations, compare with the last good run, write a
# report. docs/nightly.md explains it.
#
#   CHECKPOINT=folder  SUITE=suite.json  WORK=folder  nightly.sh
#
#   TEXT       what the first conversion is remembered by, as drift.crr beside the suite (default: text.jsonl there)
#   CORRAL     the program (default: corral)
#   RECIPE     of the conversion (default: q4)
#   SANDBOX    command for generated programs (default: none, they are not executed)
#
# Exit code: 0 good, 3 a regression, anything else: something failed. WORK/model.crl is the last file that was good,
# WORK/history.sqlite the history, WORK/report.html the page, WORK/junit.xml the outcome for CI systems.
set -eu
: "${CHECKPOINT:?the checkpoint to convert}" "${SUITE:?the suite to run}" "${WORK:?a folder for the results}"
corral=${CORRAL:-corral}
recipe=${RECIPE:-q4}
mkdir -p "$WORK"

# One at a time: a run that takes longer than a night must not meet the next.
exec 9>"$WORK/lock"
flock -n 9 || { echo "nightly: another run has not ended" >&2; exit 1; }

"$corral" convert "$CHECKPOINT" "$WORK/new.crl" --recipe "$recipe" --quiet
"$corral" verify "$WORK/new.crl" --against "$CHECKPOINT" --quiet

# The model as it was when this began: whatever changes its predictions afterwards shows as drift, however small beside
# what the recipe costs. Remove the file to accept a change.
here=$(dirname "$SUITE")
[ -f "$here/drift.crr" ] ||
    "$corral" eval reference "$WORK/new.crl" --text "${TEXT:-$here/text.jsonl}" --limit 60 --output "$here/drift.crr" --quiet

rc=0
"$corral" eval suite "$SUITE" "$WORK/new.crl" --history "$WORK/history.sqlite" --junit "$WORK/junit.xml" \
    ${SANDBOX:+--sandbox "$SANDBOX"} --quiet || rc=$?
"$corral" report "$WORK/history.sqlite" --output "$WORK/report.html" || [ "$rc" != 0 ]
if [ "$rc" = 0 ]; then mv "$WORK/new.crl" "$WORK/model.crl"; fi
exit "$rc"
