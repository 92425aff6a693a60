#!/bin/sh
# Starts the stack in the background and waits until it works. `make down` ends it.
set -eu
cd "$(dirname "$0")/../.."

pid_file=.local/stack.pid
endpoints=.local/endpoints.json
mkdir -p .local
chmod 700 .local

if [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
    echo "up: the stack runs already; its addresses are in $endpoints. \`make down\` ends it." >&2
    exit 0
fi
rm -f "$endpoints"
# A session of its own, so that Ctrl-C in this terminal does not reach it.
setsid target/release/transship-local up "$endpoints" </dev/null >.local/stack.log 2>&1 &
pid=$!
echo "$pid" >"$pid_file"

waited=0
until [ -f "$endpoints" ]; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$waited" -gt 1200 ]; then
        echo "up: the stack did not start:" >&2
        tail -n 30 .local/stack.log >&2
        kill -TERM "$pid" 2>/dev/null || true
        rm -f "$pid_file"
        exit 1
    fi
    sleep 0.1
    waited=$((waited + 1))
done
source=$(sed -n '/"source_registry"/,/}/s|.*"url": "http://\([^"]*\)".*|\1|p' "$endpoints")
cat >&2 <<EOF
up: the stack runs. Its addresses are in $endpoints. Try:
      skopeo copy --dest-tls-verify=false docker://IMAGE docker://$source/REPOSITORY:TAG
      target/release/transship run export --artifact REPOSITORY:TAG --blob NAME --wait
      target/release/transship doctor
    \`make down\` ends it.
EOF
