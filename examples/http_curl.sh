#!/bin/sh
# Upload a photo, say a text, download the conversation: http_curl.sh PHOTO TEXT OUT.mp4
# The gateway's address is WARMTALK_URL (default http://127.0.0.1:8000), the key WARMTALK_API_KEY.
set -eu
photo=$1 text=$2 out=$3
url=${WARMTALK_URL:-http://127.0.0.1:8000}
session=curl-$$

call() { curl --silent --show-error --fail-with-body -H "X-Internal-API-Key: ${WARMTALK_API_KEY:-none}" "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

avatar=$(call -F "file=@$photo" "$url/v1/avatars" | field job_id)
echo "building avatar $avatar"
until state=$(call "$url/v1/status/$avatar" | field status); [ "$state" = completed ]; do
    [ "$state" != failed ] || { call "$url/v1/status/$avatar" >&2; exit 1; }
    sleep 0.5
done
printf '{"text": "%s", "session_id": "%s", "avatar_id": "%s"}' "$text" "$session" "$avatar" |
    call "$url/v1/speak" -H 'Content-Type: application/json' --data-binary @- >/dev/null
call -o "$out" "$url/v1/sessions/$session/conversation.mp4"
echo "wrote $out"
