#!/bin/bash
# The whole Sunbird job on real servers: run by `./dev demo [--keep]`.
set -euo pipefail
export LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
servers=$root/tools/servers/servers
program=${CASS2ES_BIN:-$root/build/gcc/cass2es}
work=${CASS2ES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cass2es-dev}/demo
port=${CASS2ES_DEMO_PORT:-19900}
api=http://127.0.0.1:$port/v1/data/sync
keep=no
[ "${1:-}" != --keep ] || keep=yes

bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
[ -t 1 ] || bold='' plain=''
step_no=0
step() {
    step_no=$((step_no + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step_no" "$1" "$plain"
    shift
    [ $# -eq 0 ] || printf '   %s\n' "$@"
}
# Prints a command as one would type it, secrets masked.
show() {
    local word shown='' quoted
    for word in "$@"; do
        case $word in *_password=* | *_api_key=*) word=${word%%=*}='***' ;; esac
        printf -v quoted '%q' "$word"
        [[ $word != *[!A-Za-z0-9_./:=,@*\&-]* ]] && quoted=$word
        shown+=" $quoted"
    done
    shown=${shown//$root\//}
    printf '   $%s\n' "${shown//$work\//}"
}
run() {
    show "$@"
    "$@"
}
# The program must not take the variables of this house for its own settings.
clean() { (unset "${!CASS2ES_@}"; exec "$@"); }
fail() { printf '\nthe demo failed: %s\n' "$*" >&2; exit 1; }

serve_pid=
started=()
finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$serve_pid" ]; then
        kill -TERM "$serve_pid" 2>/dev/null || true
        wait "$serve_pid" 2>/dev/null || true
    fi
    if [ ${#started[@]} -gt 0 ]; then
        if [ $keep = yes ]; then
            printf '\nLeft running: %s. Stop them with ./dev down\n' "${started[*]}"
        else
            "$servers" stop "${started[@]}" || true
        fi
    fi
    [ $code -eq 0 ] || [ ! -s "$work/serve.log" ] || { echo "--- the end of the Sync API's log"; tail -20 "$work/serve.log"; } >&2
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

[ -x "$program" ] || fail "no program at $program: ./dev build"
rm -rf "$work"
mkdir -p "$work/bin"
ln -s "$program" "$work/bin/cass2es"
ln -s "$root/packaging/Sync_run.sh" "$work/bin/Sync_run.sh"
ln -s "$root/profiles" "$work/bin/profiles"
export XDG_STATE_HOME=$work/state
cd "$work"

step "Real servers" "Cassandra and Elasticsearch, on loopback, from their published jars."
before=$("$servers" status)
for name in cassandra elasticsearch; do
    grep -q "^$name .*running, pid" <<<"$before" || started+=("$name")
done
run "$servers" start cassandra elasticsearch
eval "$("$servers" env)"
cassandra=$CASS2ES_TEST_HOST_CASSANDRA cassandra_port=$CASS2ES_TEST_PORT_CASSANDRA
elastic=http://$CASS2ES_TEST_HOST_ELASTICSEARCH:$CASS2ES_TEST_PORT_ELASTICSEARCH
(umask 077 && printf '%s\n' "$CASS2ES_TEST_PASSWORD" >"$work/cassandra-password")

step "Sunbird's tables, and rows in them" "The same rows every time: Hindi, emoji, quotes, line ends, nulls, empty collections, odd course ids."
run "$root/demo/load.py" --host "$cassandra" --port "$cassandra_port"

step "Sunbird's indices, empty but for three old batches"
run "$root/demo/indices.py" prepare

# The job as an operator runs it; its words come after the connection.
job() {
    local command=("$work/bin/Sync_run.sh" --context_param sunbird_cassandra_server="$cassandra"
        --context_param sunbird_cassandra_port="$cassandra_port"
        --context_param sunbird_cassandra_username="$CASS2ES_TEST_USER"
        --context_param sunbird_cassandra_password="$CASS2ES_TEST_PASSWORD"
        --context_param sunbird_sync_api_endpoint="$api"
        --context_param sunbird_sync_api_key=demo-key "$@")
    show "${command[@]}"
    clean "${command[@]}" || fail "the job ended with exit code $?"
}

step "A dry run: which batches would be sent?" "No call is made. The job writes the ids to syncIds.csv: for batches these are course ids."
job --context_param dry_run=true --context_param sunbird_cassandra_table=course_batch --context_param sunbird_sync_object_type=batch
[ -s syncIds.csv ] || fail "the dry run wrote no syncIds.csv"
run wc -l syncIds.csv
run head -5 syncIds.csv
mv syncIds.csv batches.csv

step "The other end: our Sync API" "It answers as Sunbird's servers do, reads the rows from Cassandra and writes the documents to Elasticsearch."
profiles=()
for name in batch location organisation user; do
    profiles+=(--mapping "$root/profiles/sunbird/$name.yaml")
done
serve=("$work/bin/cass2es" serve --listen "127.0.0.1:$port" --cassandra-hosts "$cassandra" --cassandra-port "$cassandra_port"
    --cassandra-username "$CASS2ES_TEST_USER" --cassandra-password-file "$work/cassandra-password" --elastic-url "$elastic"
    "${profiles[@]}")
show "${serve[@]}" "&"
(unset "${!CASS2ES_@}"; exec "${serve[@]}") >"$work/serve.log" 2>&1 &
serve_pid=$!
for ((i = 0; ; i++)); do
    curl_ok=$(/usr/bin/python3 - "$port" <<'PY'
import sys, urllib.request
try:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print(opener.open(f"http://127.0.0.1:{sys.argv[1]}/health/ready", timeout=2).status)
except OSError:
    print("no")
PY
    )
    [ "$curl_ok" != 200 ] || break
    kill -0 "$serve_pid" 2>/dev/null || fail "the Sync API ended"
    [ $i -lt 100 ] || fail "the Sync API did not become ready"
    sleep 0.2
done
echo "   ready at $api"

step "The dry run's ids are given back, and sent" "sunbird_sync_sleep_time=0: no pause between calls, since this server is ours."
job --context_param dry_run=false --context_param sunbird_sync_sleep_time=0 --context_param sunbird_sync_object_type=batch \
    --context_param sunbird_sync_id_file="$work/batches.csv"

step "The job itself, from the tables" "The batches are there already, and are left as they are; users get their organisations and roles."
for pair in course_batch:batch location:location organisation:organisation user:user; do
    job --context_param dry_run=false --context_param sunbird_sync_sleep_time=0 \
        --context_param sunbird_cassandra_table="${pair%:*}" --context_param sunbird_sync_object_type="${pair#*:}"
    echo
done

step "Enrolments, without a Sync API between" "The same mapping files serve \`cass2es sync\`: each row of the table is a document. First what it would be."
direct() {
    local command=("$work/bin/cass2es" sync --mapping "$root/profiles/sunbird/user_course.yaml" --cassandra-hosts "$cassandra"
        --cassandra-port "$cassandra_port" --cassandra-username "$CASS2ES_TEST_USER" --cassandra-password-file "$work/cassandra-password"
        --elastic-url "$elastic" "$@")
    show "${command[@]}"
    clean "${command[@]}" || fail "it ended with exit code $?"
}
direct --dry-run
direct

step "Are they the same?" \
    "The job can only say that the ids were accepted. So both stores are asked, when the Sync API has had its time (at most 2 minutes)."
run "$root/demo/indices.py" wait 120
run "$root/demo/indices.py" compare || fail "Cassandra and Elasticsearch differ"
printf '\n%sEqual.%s The job, its logs and the Sync API: %s\n' "$bold" "$plain" "$work"
