#!/bin/sh
# Tests a running deployment of x402-edge from outside, with curl. `--help` says how.
#
# Secrets come in the environment, go to curl in a configuration on its standard input, and never to a command line, which
# other users of the machine can read. Every line is printed by `say`, which shows none that holds a secret. Of an answer only
# statuses, codes and versions are printed, so that a server cannot write to the terminal.
set -u
LC_ALL=C
export LC_ALL

# The most bytes of a refusal: ours have some 500, and one that is longer says more than that it refuses.
REFUSAL_BYTES_MAX=2048
# Of the right form, and never valid: the checksum of the key, and whose the others would be, are wrong.
WRONG_KEY=x402_test_3HXMrnTdAa29dYnmNMBVxgHMKcHzx4VwhYCKMfTJYyUf4haQ1fNR8UY8SE22
WRONG_SESSION=0707070707070707070707070707070707070707070707070707070707070707
WRONG_TOKEN=a-wrong-token-of-verify-deployment-sh
SCRIPTS=$(dirname "$0")
# The routes of this checkout, with the credentials that they want.
ROUTES=$SCRIPTS/../docs/reference/openapi.json

# shellcheck source=scripts/lib/ask.sh
. "$SCRIPTS/lib/ask.sh"

usage() {
  cat <<'EOF'
usage: scripts/verify-deployment.sh [--limit SECONDS] URL

Tests the deployment of x402-edge at URL (https://host, or http:// on this machine) from outside: pages, health, status,
prices, access control of every route, security headers of every answer, unknown paths, wrong methods, response times. The
routes are those of this checkout. It changes nothing; a verification counts and is listed as any other.

  --limit SECONDS  an answer that takes longer is a failure (1 to 60, default 5); one above a second is a warning
  --help           this text

In the environment:
  X402_TEST_KEY    a key for test networks (x402_test_…): a payment is verified, without a claim, by its tenant, who needs a
                   recipient on that chain
  X402_TEST_CHAIN  the chain of that verification; base-sepolia if it is not given
  X402_TEST_TX     a transaction that has paid the tenant there, and must verify; without it one is verified that does not
                   exist, and the verdict must be TX_NOT_FOUND
  METRICS_TOKEN    the token of /metrics, which must answer to it

The service refuses a network that sends 20 wrong keys of operators or of metrics in a minute, and a run sends six: run it three
times a minute at most.

One line a check: ok, warn or FAIL. Exit code: 0 where none has failed; 1 with a list of those that have; 2 where the command
or the environment is wrong.
EOF
}

# --- what is printed ---

# say LINE: prints it, with `(secret)` in place of a secret that an answer has repeated.
say() {
  line=$1
  for secret in "$test_key" "$metrics_token"; do
    while [ -n "$secret" ]; do
      case $line in *"$secret"*) line="${line%%"$secret"*}(secret)${line#*"$secret"}" ;; *) break ;; esac
    done
  done
  printf '%s\n' "$line"
}

refuse_to_start() {
  printf '%s\n' "verify-deployment: $1" >&2
  exit 2
}

# What of a text of the server may be shown.
plain() {
  tr -cd 'A-Za-z0-9._-' | cut -c 1-40
}

begin() {
  title=$1 problems='' notes=''
  checks=$((checks + 1))
}

problem() {
  problems="${problems:+$problems; }$1"
}

note() {
  notes="${notes:+$notes; }$1"
}

# conclude FOUND: prints the check's line; FOUND says what was found where all is well.
conclude() {
  if [ -n "$problems" ]; then
    say "FAIL  $title: $problems"
    failed="$failed
  $title: $problems"
    failures=$((failures + 1))
  elif [ -n "$notes" ]; then
    say "warn  $title: $1, but $notes"
    warnings=$((warnings + 1))
  else
    say "ok    $title: $1"
  fi
}

# --- checks ---

# check_page PATH TYPE TEXT…: a public page that must hold the texts.
check_page() {
  page=$1 type=$2
  shift 2
  begin "GET $page"
  if visit SHARED GET "$page" && expect_status 200; then
    expect_type "$type"
    for text in "$@"; do expect_text "$text"; done
  fi
  conclude "200 in $seconds s"
}

# Both stand at the beginning: components further on have a `status` of their own.
check_health() {
  begin 'GET /v1/health'
  condition='' version=''
  if visit SHARED GET /v1/health && expect_status 200; then
    condition=$(sed -n 's/^{"status":"\([a-z]*\)".*/\1/p' "$work/body" | plain)
    version=$(sed -n 's/^{"status":"[a-z]*","version":"\([^"]*\)".*/\1/p' "$work/body" | plain)
    case $condition in
      ok) ;;
      degraded) note 'a component is degraded or down: the answer says which' ;;
      *) problem "the status is '$condition'" ;;
    esac
    [ -n "$version" ] || problem 'no version'
  fi
  conclude "200 in $seconds s, status $condition, version $version"
}

check_status() {
  begin 'GET /v1/status'
  if visit SHARED GET /v1/status && expect_status 200; then
    expect_text '"chains":{"'
    expect_text '"incidents":['
    if grep -Fq '"ended_at":null' "$work/body"; then note 'an incident lasts'; fi
  fi
  conclude "200 in $seconds s"
}

check_supported() {
  begin 'GET /facilitator/supported'
  if visit SHARED GET /facilitator/supported && expect_status 200; then
    expect_text '"kinds":['
    if grep -Fq '"kinds":[]' "$work/body"; then note 'no payment can be settled: no signer can pay'; fi
  fi
  conclude "200 in $seconds s"
}

check_public() {
  check_status
  check_page /v1/pricing application/json '"currency":"usd"' '"plans":[{"tier":"'
  check_supported
  check_page /docs/errors text/html INVALID_API_KEY
  check_page /docs/tiers text/html enterprise
  check_page /v1/openapi.json application/json '"openapi": "3.' '"/v1/verify": {'
}

# Each operation of the OpenAPI document that wants a credential, as `METHOD PATH KIND`, where KIND names whose it is.
# `npm run generate` writes the document, one member a line.
routes() {
  awk '
    /^  "/ { in_paths = ($0 ~ /^  "paths"/) }
    !in_paths { next }
    /^    "\// { split($0, part, "\""); path = part[2]; gsub(/\{[a-z_]+\}/, "0", path) }
    /^      "[a-z]+": \{/ { split($0, part, "\""); method = toupper(part[2]) }
    /^        "security": \[$/ { wants = " "; next }
    wants != "" && /^        \]/ {
      key = wants ~ / apiKey /; session = wants ~ / session /
      kind = wants ~ / adminKey / ? "operators" : wants ~ / metricsToken / ? "metrics" : \
        wants ~ / nothing / ? "everybody" : key && session ? "managers" : session ? "people" : "keys"
      print method, path, kind
      wants = ""
    }
    wants != "" && /^            "/ { split($0, part, "\""); wants = wants part[2] " " }
    wants != "" && /^          \{\}/ { wants = wants "nothing " }
  ' "$ROUTES"
}

# check_refusal ORIGINS METHOD PATH CREDENTIAL HOW: the route must refuse, and say nothing more.
check_refusal() {
  begin "$2 $3 $5"
  refused_body=''
  case $2 in POST | PUT | PATCH) refused_body='{}' ;; esac
  if visit "$1" "$2" "$3" "$4" "$refused_body" && judge_refusal "$3"; then expect_type application/problem+json; fi
  conclude "$status in $seconds s"
}

judge_refusal() {
  code=$(error_code)
  if [ "$1 $status $code" = '/metrics 503 MISCONFIGURED' ]; then
    note 'METRICS_TOKEN is not set: there are no metrics'
    return 0
  fi
  if [ "$status" = 429 ]; then
    problem '429: too many wrong keys came from this network; try again in a minute'
    return 1
  fi
  expect_status 401 403 || return 1
  case $code in
    INVALID_* | INSUFFICIENT_* | CROSS_ORIGIN) ;;
    *) problem "$status without the code of a refusal" ;;
  esac
  [ "$(wc -c <"$work/body")" -le "$REFUSAL_BYTES_MAX" ] || problem "$status with more than a refusal"
}

# check_route METHOD PATH KIND
check_route() {
  origins_of_route=SHARED
  case $3 in managers | people) origins_of_route=OWN ;; esac
  [ "$3" = everybody ] || check_refusal "$origins_of_route" "$1" "$2" '' "for $3, without a credential"
  case $3 in
    keys | managers | everybody)
      check_refusal "$origins_of_route" "$1" "$2" "Authorization: Bearer $WRONG_KEY" "for $3, with a wrong key"
      ;;
    people)
      check_refusal OWN "$1" "$2" "Cookie: __Host-session=$WRONG_SESSION" "for $3, with a wrong session"
      ;;
    metrics)
      check_refusal SHARED "$1" "$2" "Authorization: Bearer $WRONG_TOKEN" "for $3, with a wrong token"
      ;;
  esac
}

check_access() {
  routes >"$work/routes"
  while read -r route_method route_path kind; do
    check_route "$route_method" "$route_path" "$kind" </dev/null
  done <"$work/routes"
  # The service compares 20 wrong keys a minute, so not every route for operators gets one.
  for route_method in GET POST; do
    check_refusal SHARED "$route_method" /v1/admin/tenants "X-Admin-Key: $WRONG_TOKEN" 'for operators, with a wrong key'
  done
  check_refusal OWN GET /v1/tenant "Cookie: __Host-session=$WRONG_SESSION" 'for managers, with a wrong session'
  check_key_in_url
}

# Such an answer is always 200, for packages that read no other.
check_key_in_url() {
  begin 'POST /facilitator/k/{key}/verify with a wrong key'
  if visit SHARED POST "/facilitator/k/$WRONG_KEY/verify" '' '{}' && expect_status 200 401 403; then
    expect_text '"isValid":false'
  fi
  conclude "refused in $seconds s"
}

# A credential of one kind opens nothing of another.
check_borders() {
  if [ -n "$test_key" ]; then
    check_refusal SHARED GET /v1/admin/tenants "X-Admin-Key: $test_key" "with a tenant's key"
    check_refusal SHARED GET /metrics "Authorization: Bearer $test_key" "with a tenant's key"
  fi
  if [ -n "$metrics_token" ]; then
    check_refusal SHARED GET /v1/admin/tenants "X-Admin-Key: $metrics_token" 'with the token of metrics'
    check_refusal SHARED GET /v1/usage "Authorization: Bearer $metrics_token" 'with the token of metrics'
  fi
}

check_unknown_paths() {
  for unknown in /v1/nowhere /v1/admin /v1/verify/nowhere /.env /.git/config /metrics/nowhere; do
    begin "GET $unknown"
    if visit SHARED GET "$unknown" && expect_status 404; then
      [ "$(error_code)" = NOT_FOUND ] || problem 'no error NOT_FOUND'
    fi
    conclude "404 in $seconds s"
  done
}

# check_wrong_method ORIGINS METHOD PATH
check_wrong_method() {
  begin "$2 $3, a wrong method"
  if visit "$1" "$2" "$3" && expect_status 405; then has_header allow || problem 'no header Allow'; fi
  conclude "405 in $seconds s"
}

check_wrong_methods() {
  check_wrong_method SHARED GET /v1/verify
  check_wrong_method SHARED POST /v1/health
  check_wrong_method SHARED DELETE /v1/pricing
  check_wrong_method SHARED PUT /v1/admin/tenants
  check_wrong_method OWN PATCH /v1/session
  check_wrong_method SHARED POST /metrics
}

check_metrics() {
  if [ -z "$metrics_token" ]; then
    say 'skip  metrics: METRICS_TOKEN is not given'
    return
  fi
  begin 'GET /metrics with the token'
  if visit SHARED GET /metrics "Authorization: Bearer $metrics_token" && expect_status 200; then
    expect_type 'text/plain; version=0.0.4'
    grep -q '^x402_build_info{version="[^"]*"} 1$' "$work/body" || problem 'no x402_build_info'
  fi
  conclude "200 in $seconds s"
}

# A transaction that does not exist on the chain.
nonexistent() {
  case $chain in
    solana*) echo 555555555555555555555555555555555555555555555555555555555555555555555555555555555555555 ;;
    *) printf '0x%s\n' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" ;;
  esac
}

check_verification() {
  if [ -z "$test_key" ]; then
    say 'skip  verification: X402_TEST_KEY is not given'
    return
  fi
  begin "POST /v1/verify on $chain"
  asked="{\"tx_hash\":\"${transaction:-$(nonexistent)}\",\"chain\":\"$chain\",\"claim\":false,\"max_age_seconds\":315360000}"
  verdict=''
  if visit SHARED POST /v1/verify "Authorization: Bearer $test_key" "$asked" && expect_status 200; then
    expect_type application/json
    judge_verdict
  elif [ "$(error_code)" = RECIPIENT_NOT_REGISTERED ]; then
    problem "the key's tenant needs a recipient on $chain"
  fi
  conclude "200 in $seconds s, verdict $verdict"
}

judge_verdict() {
  verdict=$(error_code)
  if [ -n "$transaction" ]; then
    grep -Fq '"success":true' "$work/body" || problem "the verdict is '$verdict' instead of a success"
    verdict=success
  else
    [ "$verdict" = TX_NOT_FOUND ] || problem "the verdict is '$verdict' instead of TX_NOT_FOUND"
    expect_text '"success":false'
  fi
}

# --- the command ---

# Sets `url` (without a slash at its end) and `scheme`. A secret may go over plain HTTP only within this machine.
read_url() {
  url=${1%/} no_proxy_line=''
  case $url in
    https://*) scheme=https ;;
    http://*) scheme=http ;;
    *) refuse_to_start 'URL must begin with https://' ;;
  esac
  host=${url#*://}
  case $host in
    '' | *[!A-Za-z0-9.:_-]*)
      [ "${host%%]*}" = '[::1' ] || refuse_to_start 'URL must be https://host or https://host:port, without anything more'
      ;;
  esac
  case "$scheme ${host%:*}" in
    'https '*) ;;
    'http localhost' | 'http 127.0.0.1' | 'http [::1]') no_proxy_line='noproxy = "*"' ;;
    *) refuse_to_start 'http:// is only for localhost and 127.0.0.1, with a port: a key would be readable on its way' ;;
  esac
}

read_arguments() {
  url='' limit=5
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h)
        usage
        exit 0
        ;;
      --limit)
        [ $# -gt 1 ] || refuse_to_start '--limit wants seconds'
        limit=$2
        shift
        ;;
      --limit=*) limit=${1#*=} ;;
      -*) refuse_to_start "no such option; see --help" ;;
      *)
        [ -z "$url" ] || refuse_to_start 'one URL at a time'
        read_url "$1"
        ;;
    esac
    shift
  done
  [ -n "$url" ] || refuse_to_start 'which URL? See --help'
  case $limit in
    [1-9] | [1-5][0-9] | 60) ;;
    *) refuse_to_start '--limit must be a whole number of seconds from 1 to 60' ;;
  esac
}

# Takes the secrets out of the environment, which the programs that are run would inherit.
read_environment() {
  test_key=${X402_TEST_KEY:-} metrics_token=${METRICS_TOKEN:-}
  transaction=${X402_TEST_TX:-} chain=${X402_TEST_CHAIN:-base-sepolia}
  unset X402_TEST_KEY METRICS_TOKEN
  case $test_key in
    *[!A-Za-z0-9_]*) refuse_to_start 'X402_TEST_KEY is no key' ;;
    '' | x402_test_*) ;;
    *) refuse_to_start 'X402_TEST_KEY must be a key for test networks (x402_test_…)' ;;
  esac
  case $metrics_token in *[![:print:]]*) refuse_to_start 'METRICS_TOKEN holds what no header can' ;; esac
  if [ -n "$metrics_token" ] && [ "${#metrics_token}" -lt 32 ]; then
    refuse_to_start 'METRICS_TOKEN has at least 32 characters'
  fi
  case $transaction in *[!A-Za-z0-9]*) refuse_to_start 'X402_TEST_TX is no transaction' ;; esac
  case $chain in *[!a-zA-Z0-9:-]*) refuse_to_start 'X402_TEST_CHAIN is no chain' ;; esac
}

prepare() {
  command -v curl >/dev/null || refuse_to_start 'curl is not installed'
  [ -r "$ROUTES" ] || refuse_to_start 'docs/reference/openapi.json is not beside this script: run it in a checkout'
  umask 077
  work=$(mktemp -d) || exit 2
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' HUP INT TERM
  [ "$(($(routes | wc -l)))" -ge 50 ] || refuse_to_start 'the routes in docs/reference/openapi.json cannot be read'
  checks=0 failures=0 warnings=0 failed=''
}

check_all_else() {
  check_public
  check_access
  check_borders
  check_unknown_paths
  check_wrong_methods
  check_metrics
  check_verification
}

main() {
  read_arguments "$@"
  read_environment
  prepare
  check_health
  # Else each of the others would wait for its deadline.
  [ "$bytes" -eq 0 ] || check_all_else
  say "$checks checks of $url: $failures failed, $warnings warnings"
  [ "$failures" -gt 0 ] || exit 0
  say "failed:$failed"
  exit 1
}

main "$@"
