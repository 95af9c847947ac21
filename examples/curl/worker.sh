#!/bin/sh
# A worker made of curl: runs a command for every task of a topic, with the task as JSON on its standard input.
#
#   worker.sh URL TOPIC COMMAND [ARGUMENT...]
#   worker.sh http://127.0.0.1:8000 crawl sh -c 'jq -r .payload.url | xargs wget'
#
# When the command succeeds, the task is completed; when it fails, the task is tried again after RETRY. Tasks run one at
# a time: start more workers for more. Asked to end, a worker finishes its task first; one that dies gives it back at
# once, and one that loses the server connects again.
#
# Settings, from the environment: CONSUMER (this host and process), TIMEOUT (10m: a task that takes longer is handed out
# again), RETRY (10s).
#
# Needs curl 7.76 or newer, and jq or python3 for JSON.
set -eu

if [ $# -lt 3 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
server=$1 topic=$2
shift 2
consumer=${CONSUMER:-$(uname -n)-$$} timeout=${TIMEOUT:-10m} retry=${RETRY:-10s}

# The fields of a task as words of the shell: its id as it stands in a path, and its nonce. Of an error: its message.
if command -v jq >/dev/null; then
    fields() {
        jq -r 'if .error then "error=\(.error.message | @sh)" else "id=\(._id | @uri | @sh) nonce=\(.nonce | @sh)" end'
    }
else
    fields() {
        python3 -c 'import json, shlex, sys, urllib.parse
task = json.load(sys.stdin)
if "error" in task:
    words = {"error": task["error"]["message"]}
else:
    words = {"id": urllib.parse.quote(task["_id"], safe=""), "nonce": task["nonce"]}
print(*(name + "=" + shlex.quote(word) for name, word in words.items()))'
    }
fi

# Tasks come one a line, empty lines are signs of life. A topic of the query may be any, without quoting it for a path.
stream() {
    exec curl -sSN --fail-with-body --get -H 'Accept: application/x-ndjson' --data-urlencode "topic=$topic" \
        --data-urlencode "consumer=$consumer" -d "timeout=$timeout" -d release_on_close=true "$server/v1/topics//stream"
}

commit() {
    curl -sS --fail-with-body -o /dev/null -X PATCH -d "$1" "$server/v1/topics//tasks/$id" ||
        echo "task $id was not committed; did it take longer than $timeout?" >&2
}

work() {
    while [ -z "$stop" ] && { IFS= read -r line || [ -n "$line" ]; }; do
        [ -n "$line" ] || continue
        busy=1
        [ -z "$stop" ] || break # given back
        if ! words=$(printf '%s\n' "$line" | fields); then
            echo "not a task: $line" >&2
            busy=
            continue
        fi
        error=
        eval "$words"
        if [ -n "$error" ]; then
            echo "$error" >&2
            busy=
            continue
        fi
        if printf '%s\n' "$line" | "$@"; then
            commit "{\"nonce\": \"$nonce\"}"
        else
            commit "{\"nonce\": \"$nonce\", \"state\": 0, \"defer\": \"$retry\"}"
        fi
        busy=
    done
}

hang_up() {
    kill "$curl" 2>/dev/null || :
}

stop='' busy='' curl=''
pipes=$(mktemp -d)
mkfifo "$pipes/tasks"
trap 'hang_up; rm -r "$pipes"' EXIT
trap 'stop=1; [ -n "$busy" ] || hang_up' INT TERM
while [ -z "$stop" ]; do
    stream >"$pipes/tasks" &
    curl=$!
    work "$@" <"$pipes/tasks"
    [ -n "$stop" ] || sleep 1 # before it connects again
done
