# Requests to a deployment, and what must hold for every answer. `verify-deployment.sh` reads this file; it gives `url`, `scheme`,
# `no_proxy_line`, `limit`, `work` (a folder), `problem` and `note`.

# The most bytes of an answer, headers included: the OpenAPI document, the largest, has a fourth of it.
BYTES_MAX=4194304
# Seconds from which on an answer is warned of.
SLOW_S=1

# A text between the quotes of curl's configuration.
quoted() {
  sed 's/[\\"]/\\&/g' <<EOF
$1
EOF
}

# The configuration of a request. A here-document is no command line.
configuration() {
  cat <<EOF
silent
include
globoff
suppress-connect-headers
proto = "=$scheme"
$no_proxy_line
max-time = $limit
max-filesize = $BYTES_MAX
user-agent = "x402-edge-verify-deployment"
request = "$method"
url = "$url$(quoted "$path")"
write-out = "%{stderr}%{http_code} %{time_total}"
EOF
  if [ -n "$credential" ]; then
    cat <<EOF
header = "$(quoted "$credential")"
EOF
  fi
  # Without it a change by a session is refused before the session is looked at.
  case $credential in Cookie:*) echo 'header = "Sec-Fetch-Site: same-origin"' ;; esac
  if [ -n "$body" ]; then
    cat <<EOF
header = "Content-Type: application/json"
data-raw = "$(quoted "$body")"
EOF
  fi
}

# Puts the answer's headers, as `name: value` with the name in lower case, and its body into files of their own.
split_answer() {
  awk -v headers="$work/headers" -v body="$work/body" '
    in_body { print > body; next }
    { sub(/\r$/, "") }
    /^HTTP\// && !in_head { interim = ($2 ~ /^1/); in_head = 1; next }
    $0 == "" { in_head = 0; in_body = !interim; next }
    !interim && /:/ {
      at = index($0, ":")
      value = substr($0, at + 1)
      gsub(/^[ \t]+|[ \t]+$/, "", value)
      print tolower(substr($0, 1, at - 1)) ": " value > headers
    }' "$work/answer"
}

# ask METHOD PATH [CREDENTIAL [BODY]]: sends a request. Sets `status`, `seconds`, `result` (how curl ended) and `bytes`.
ask() {
  method=$1 path=$2 credential=${3:-} body=${4:-}
  : >"$work/headers"
  : >"$work/body"
  # curl bounds only a length that is told beforehand: `head` bounds the others, and the headers.
  {
    configuration | curl -q --config -
    echo "$?" >"$work/result"
  } 2>"$work/told" | head -c "$((BYTES_MAX + 1))" >"$work/answer"
  result=$(cat "$work/result")
  status=000 seconds=0
  # What curl was told to write comes last.
  read -r status seconds <<EOF
$(tail -n 1 "$work/told")
EOF
  bytes=$(($(wc -c <"$work/answer")))
  split_answer
}

# visit SHARED|OWN METHOD PATH [CREDENTIAL [BODY]]: sends a request, and judges what holds for every answer. Pages of any origin
# may read a SHARED one, only those of the service's own origin an OWN one. Fails where nothing else can be judged.
visit() {
  origins=$1
  shift
  ask "$@"
  case $result in
    0) ;;
    28) problem "no whole answer within $limit s" ;;
    # `head` has closed its end, or a length above the bound was told.
    23 | 63) bytes=$((BYTES_MAX + 1)) ;;
    *) problem "no answer (curl $result)" ;;
  esac
  [ "$bytes" -le "$BYTES_MAX" ] || problem "the answer has more than $BYTES_MAX bytes"
  [ -z "$problems" ] || return 1
  [ "${seconds%%.*}" -lt "$SLOW_S" ] || note "the answer took $seconds s"
  judge_headers
}

# What crates/api/src/headers.rs sends with every answer; `*` is any value.
security_headers() {
  cat <<'EOF'
Strict-Transport-Security: max-age=63072000; includeSubDomains
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
Referrer-Policy: no-referrer
Permissions-Policy: geolocation=(), camera=(), microphone=()
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Embedder-Policy: require-corp
Content-Security-Policy: default-src 'none'; style-src 'sha256-xy5dH/z6R6wntfh+M7923KkbG9if6HcuvuzQUT+4RTE='; form-action 'none'; frame-ancestors 'none'; base-uri 'none'
X-Request-Id: *
Cache-Control: *
EOF
  case $origins in
    SHARED) echo 'Cross-Origin-Resource-Policy: cross-origin' ;;
    OWN) echo 'Cross-Origin-Resource-Policy: same-origin' ;;
  esac
}

# A header that comes twice must be right both times.
judge_headers() {
  amiss=$(security_headers | awk '
    { at = index($0, ": "); name = tolower(substr($0, 1, at - 1)); value = substr($0, at + 2) }
    NR == FNR { wanted[name] = value; shown[name] = substr($0, 1, at - 1); next }
    name in wanted { if (wanted[name] == "*" || wanted[name] == value) good[name] = 1; else bad[name] = 1 }
    END { for (name in wanted) if (!(name in good) || name in bad) { printf "%s%s", comma, shown[name]; comma = ", " } }
  ' - "$work/headers")
  [ -z "$amiss" ] || problem "headers that are absent or differ: $amiss"
  if [ "$origins" = OWN ] && has_header access-control-allow-origin; then problem 'pages of other origins may read it'; fi
}

# has_header NAME, in lower case
has_header() {
  grep -q "^$1: ." "$work/headers"
}

# expect_status STATUS…
expect_status() {
  for wanted in "$@"; do
    [ "$status" != "$wanted" ] || return 0
  done
  code=$(error_code)
  problem "status $status${code:+ $code} instead of $(echo "$*" | sed 's/ / or /g')"
  return 1
}

# expect_text TEXT: the body holds it.
expect_text() {
  grep -Fq -- "$1" "$work/body" || problem "the body does not hold $1"
}

expect_type() {
  grep -qi "^content-type: $1" "$work/headers" || problem "the content type is not $1"
}

# The code of an error or a verdict; empty where there is none, or one that is longer than codes are.
error_code() {
  sed -n 's/.*"error_code":"\([A-Z_]\{1,40\}\)".*/\1/p' "$work/body" | head -n 1
}
