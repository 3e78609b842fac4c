#!/usr/bin/env bash
# Installs what the tests need of Debian: PostgreSQL 15 with pg_cron, pgTAP and plpgsql_check, PgBouncer, and a browser.
# Where apt or the rights are missing it says what is left out, and fails if CI=true.
set -euo pipefail

packages=(postgresql-15 postgresql-15-cron postgresql-15-pgtap postgresql-15-plpgsql-check pgbouncer chromium)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    if [ "$status" != installed ]; then
        missing+=("$package")
    fi
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

leave_out() {
    echo "Left out: the tests on Debian's PostgreSQL 15 and in a browser, as $1." >&2
    echo "Packages: ${missing[*]}" >&2
    if [ "${CI:-}" = true ]; then
        echo "CI=true: nothing may be left out." >&2
        exit 1
    fi
    exit 0
}

as_root=()
if ! command -v apt-get >/dev/null; then
    leave_out "there is no apt here"
elif [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        leave_out "installing packages takes root's rights"
    fi
fi

echo "Installing ${missing[*]}"
# The tests bring up servers of their own: Debian's tools shall not make and start one on the way.
"${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" |
    "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/oceanrecords-tests.conf >/dev/null
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    leave_out "apt-get did not succeed"
fi
