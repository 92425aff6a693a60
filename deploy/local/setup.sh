#!/bin/sh
# Makes the servers available that the tests, the demo and a local stack start as private instances:
# RabbitMQ, docker-registry and skopeo from Debian's packages, Azurite from npm; for the tests also PostgreSQL, and what
# Python needs for an environment of its own.
#
# usage: setup.sh [tests]             everything that is missing; silent where nothing is
#        setup.sh [tests] packages    only Debian's packages, which needs root
set -eu

for_tests=
only_packages=
for argument in "$@"; do
    case $argument in
    tests) for_tests=tests ;;
    packages) only_packages=yes ;;
    *) echo "setup: unexpected argument $argument" >&2 && exit 2 ;;
    esac
done

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
azurite=$root/tests/rig/azurite

say() {
    echo "setup: $*" >&2
}

# --- Debian's packages ---------------------------------------------------------------------------------------

missing=
needs() {
    [ -x "$2" ] || missing="$missing $1"
}
needs rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
needs docker-registry /usr/bin/docker-registry
needs skopeo /usr/bin/skopeo
if [ -n "$for_tests" ]; then
    # Of whatever version: the tests take the newest.
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
fi

# PostgreSQL's package makes a database of its own, unless a file says no that its common package makes first.
# Afterwards the file is as it was: what somebody installs later is their decision.
without_cluster() {
    settings=/etc/postgresql-common/createcluster.conf
    apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends postgresql-common >&2 </dev/null
    cp -p "$settings" "$settings.transship"
    echo 'create_main_cluster = false' >>"$settings"
    "$@" || { mv "$settings.transship" "$settings"; return 1; }
    mv "$settings.transship" "$settings"
}

install_missing() {
    # shellcheck disable=SC2086 # a list of names
    apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing >&2 </dev/null
}

install_packages() {
    had_erlang=yes
    [ -x /usr/bin/epmd ] || had_erlang=

    # Packages start their services where nothing says no. What is there already is somebody's decision.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
    case $missing in
    *postgresql*) without_cluster install_missing ;;
    *) install_missing ;;
    esac

    # Nor at the next boot. Only what this run installed: a service that was there before stays as it was.
    if command -v systemctl >/dev/null; then
        units=
        for package in $missing; do
            case $package in
            rabbitmq-server) units="$units rabbitmq-server.service" ;;
            docker-registry) units="$units docker-registry.service" ;;
            postgresql) units="$units postgresql.service" ;;
            esac
        done
        [ -n "$had_erlang" ] || [ ! -x /usr/bin/epmd ] || units="$units epmd.service epmd.socket"
        # shellcheck disable=SC2086 # a list of names
        [ -z "$units" ] || systemctl --quiet disable $units >&2 || say "could not disable:$units"
    fi
}

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        say "missing:$missing. Run this once, and then the same command again:"
        echo "sudo $here/setup.sh ${for_tests:+tests }packages" >&2
        exit 1
    fi
    if ! command -v apt-get >/dev/null; then
        say "missing:$missing, and this is not a Debian. Install them by hand."
        exit 1
    fi
    install_packages
fi
[ -z "$only_packages" ] || exit 0

# --- Azurite -------------------------------------------------------------------------------------------------

# The lock file that was installed is kept beside what it installed.
installed=$azurite/node_modules/.installed-lock.json
if ! cmp -s "$azurite/package-lock.json" "$installed"; then
    if ! command -v npm >/dev/null; then
        say "npm is missing. Install Node.js 20, and then run the same command again."
        exit 1
    fi
    say "installing Azurite"
    (cd "$azurite" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >&2 </dev/null)
    cp "$azurite/package-lock.json" "$installed"
fi
