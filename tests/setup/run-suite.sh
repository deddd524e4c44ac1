#!/usr/bin/env bash
# run-suite.sh NAME COMMAND...: run one test suite; fail when the command fails, when no test was executed, or when a
# PostgreSQL cluster of the tests is left behind.
#
# A suite that finds no test usually means a wrong filter or a missing file, and would otherwise pass for ever. Counted are
# the closing lines of cargo test ("test result: ok. 3 passed"), pytest and unittest ("3 passed", "Ran 3 tests"), TAP's
# prove ("Files=1, Tests=3") and pg_regress ("All 3 tests passed").
#
# With SUITE_SUMMARY set, the closing lines are also appended to that file, for the summary at the end of `make test`.
set -euo pipefail

[ "$#" -ge 2 ] || { echo "usage: run-suite.sh NAME COMMAND..." >&2; exit 2; }
name=$1
shift

# A temporary folder of our own makes leftovers visible. The PostgreSQL server runs as another user when we are root, so
# others may pass through; the path stays short because Unix socket paths have a limit of 107 bytes.
work=$(mktemp -d /tmp/hs-XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
log=$work/output

echo "== suite $name: $*"
status=0
TMPDIR=$work "$@" 2>&1 | tee "$log" || status=$?

# Lines of the runners, and the sum of the tests they executed.
closing=$(grep -E '^test result: |^=+ .*[0-9]+ (passed|failed).* in |^Ran [0-9]+ tests? in |^Files=[0-9]+, Tests=[0-9]+|All [0-9]+ tests passed|^# All [0-9]+ tests' "$log" || true)
executed=$(printf '%s\n' "$closing" | awk '
  /^test result: /  { n += $4 + $6 }
  /^=+ /            { for (i = 2; i <= NF; i++) if ($i ~ /^(passed|failed)/) n += $(i - 1) }
  /^Ran /           { n += $2 }
  /^Files=/         { split($2, part, "="); n += part[2] + 0 }
  /All [0-9]+ tests/ { for (i = 2; i <= NF; i++) if ($(i - 1) == "All") n += $i }
  END               { print n + 0 }')

# The clusters' watchdogs clean up after the test process has ended: give them a moment.
for _ in $(seq 100); do
  compgen -G "$work/hubspot_sync-*" >/dev/null || break
  sleep 0.2
done
if compgen -G "$work/hubspot_sync-*" >/dev/null; then
  echo "suite $name: left behind: $(echo "$work"/hubspot_sync-*)" >&2
  status=1
fi

if [ "$status" -eq 0 ] && [ "$executed" -eq 0 ]; then
  echo "suite $name: no test was executed" >&2
  status=1
fi
result=$([ "$status" -eq 0 ] && echo passed || echo FAILED)
summary=$(
  # Binaries without tests of their own say nothing: leave their "0 passed" out of the summary.
  printf '%s\n' "$closing" | grep -vE '^$|^test result: ok\. 0 passed; 0 failed' | sed "s/^/  $name: /" || true
  echo "suite $name $result: $executed tests executed"
)
echo "$summary"
if [ -n "${SUITE_SUMMARY:-}" ]; then
  mkdir -p "$(dirname "$SUITE_SUMMARY")"
  echo "$summary" >>"$SUITE_SUMMARY"
fi
exit "$status"
