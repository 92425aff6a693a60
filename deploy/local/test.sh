#!/bin/sh
# Runs every test of the workspace against one set of private servers, and prints the minutes of each suite.
#
# usage: test.sh [CARGO ARGUMENT]…     for example: test.sh --features failpoints
set -eu

cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
log=$target/test-minutes.log
mkdir -p "$target"
: >"$log"

# An error of a test says where it is by its own words; a panic keeps its backtrace.
export RUST_LIB_BACKTRACE=0

began=$(date +%s)
# The services are built together with the tests: another selection would give them other features, and
# compile half of the tree twice. Some tests start the services as processes.
cargo build --workspace --bins --tests "$@"
built=$(($(date +%s) - began))

failed=
if cargo nextest --version >/dev/null 2>&1; then
    report=$target/nextest/default/junit.xml
    rm -f "$report"
    "$target/debug/transship-rig" run -- cargo nextest run --workspace "$@" || failed=yes
    # One line a suite: its name, its tests, the seconds of all of them.
    [ ! -f "$report" ] || awk '
        function attribute(name) {
            if (!match($0, " " name "=\"[^\"]*\"")) return ""
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4)
        }
        /<testsuite / { suite = attribute("name") }
        /<testcase / { tests[suite]++; seconds[suite] += attribute("time") }
        END { for (suite in tests) print suite, tests[suite], seconds[suite] }
    ' "$report" >"$log"
else
    echo "test: cargo-nextest is not installed, so cargo test runs instead: slower, one suite after another." >&2
    echo "test: cargo install --locked cargo-nextest brings it." >&2
    { "$target/debug/transship-rig" run -- cargo test --workspace --bins --lib --tests --no-fail-fast "$@" 2>&1 ||
        echo "transship-tests-failed"; } | tee "$log.raw"
    ! grep -q '^transship-tests-failed$' "$log.raw" || failed=yes
    awk '
        $1 == "Running" { suite = $NF; gsub(/^\(.*\/|-[0-9a-f]+\)$/, "", suite) }
        /^running [0-9]+ test/ { count = $2 }
        /^test result:/ { seconds = $NF; sub(/s$/, "", seconds); if (count) print suite, count, seconds }
    ' "$log.raw" >"$log"
    rm -f "$log.raw"
fi

doc_began=$(date +%s)
cargo test --workspace --doc --quiet "$@" || failed=yes
echo "doc-tests - $(($(date +%s) - doc_began))" >>"$log"
echo "build - $built" >>"$log"

echo
echo "suite                                               tests  minutes (all its tests, one after another)"
sort -k3,3nr "$log" | awk '{ printf "%-50s %6s  %7.2f\n", $1, $2, $3 / 60 }'
echo "test: $(awk -v seconds=$(($(date +%s) - began)) 'BEGIN { printf "%.1f", seconds / 60 }') minutes of wall time"
[ -z "$failed" ]
