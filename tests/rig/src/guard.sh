# Runs one server and outlives whoever started it just long enough to end it.
#
# usage: sh -c THIS guard LOG FOLDER COMMAND ARGUMENT…
# Standard input is the leash: the line `stop` ends the server with SIGTERM (SIGKILL after 20 seconds),
# the line `kill` ends it with SIGKILL, and the end of input (the starter dropped it, or died) ends it with
# SIGKILL and removes FOLDER, if one is named. Standard output is one line: the server's process id.
log=$1
folder=$2
shift 2
exec 3<&0 </dev/null 2>>"$log"
asked=
trap 'asked=yes' USR1

# A session of its own: one signal reaches whatever the server started, and Ctrl-C does not.
setsid "$@" >>"$log" 3<&- &
server=$!
echo "$server"
exec >/dev/null 2>&1

(
    remove=
    read -r order <&3 || remove=$folder
    kill -USR1 "$$"
    if [ "$order" = stop ]; then
        kill -TERM "$server"
        waited=0
        while [ "$waited" -lt 200 ] && kill -0 "$server"; do
            sleep 0.1
            waited=$((waited + 1))
        done
    fi
    kill -s KILL -- "-$server"
    # What was killed may write a last file while the folder goes.
    [ -z "$remove" ] || rm -rf "$remove" || { sleep 0.2 && rm -rf "$remove"; }
) &
reader=$!

wait "$server"
code=$?
# A signal ends `wait` early; only the server's end ends this loop.
while kill -0 "$server"; do
    wait "$server"
    code=$?
done
# What the server left in its session goes with it.
kill -s KILL -- "-$server"
if [ -n "$asked" ]; then wait "$reader"; else kill "$reader"; fi
exit "$code"
