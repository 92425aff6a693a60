#!/bin/sh
# Ends the stack that up.sh started, and waits until it is gone.
set -eu
cd "$(dirname "$0")/../.."

pid_file=.local/stack.pid
[ -f "$pid_file" ] || { echo "down: no stack runs." >&2; exit 0; }
pid=$(cat "$pid_file")
# The number may have gone to another process meanwhile: only a stack is ended.
case $(readlink "/proc/$pid/exe" 2>/dev/null || true) in
*/transship-local*) kill -TERM "$pid" ;;
*) echo "down: the stack was gone already." >&2 ;;
esac
waited=0
while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 600 ]; do
    sleep 0.1
    waited=$((waited + 1))
done
if kill -0 "$pid" 2>/dev/null; then
    echo "down: process $pid does not end; see .local/stack.log." >&2
    exit 1
fi
rm -f "$pid_file" .local/endpoints.json
