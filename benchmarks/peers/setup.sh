#!/usr/bin/env bash
# Make the environments of the systems that benchmarks/peers.py compares ours with.
#
#   benchmarks/peers/setup.sh                  all of them
#   benchmarks/peers/setup.sh basic_pitch      some: basic_pitch transkun kong
#
# Each is benchmarks/.envs/<peer>, Python 3.11, exactly the versions of <peer>.txt; one that is up to
# date is left as it is. torch is the CPU build: a wheel from PIP_FIND_LINKS, else PyTorch's own CPU
# index. Needs `make setup` first, which brings uv.
set -uo pipefail
cd "$(dirname "$0")/../.."

uv=.venv/bin/uv
envs=benchmarks/.envs
known=(basic_pitch transkun kong)
failed=()

say() { printf 'peers: %s\n' "$*"; }

has_local_torch() {
  local place
  for place in ${PIP_FIND_LINKS:-}; do
    compgen -G "${place#file://}/torch-*.whl" >/dev/null && return 0
  done
  return 1
}

# make_env PEER: the stamp, written after its model was loaded once, holds the installed pins.
make_env() {
  local peer=$1 env=$envs/$1 pins=benchmarks/peers/$1.txt log=$envs/$1.log torch=()
  if cmp -s "$pins" "$env/.stamp"; then
    say "$peer is up to date"
    return 0
  fi
  say "making $env (details: $log)"
  if grep -q '^torch==' "$pins" && ! has_local_torch; then torch=(--torch-backend cpu); fi
  {
    "$uv" venv --quiet --clear --python 3.11 "$env" &&
      "$uv" pip install --python "$env/bin/python" --no-deps ${torch[@]+"${torch[@]}"} -r "$pins" &&
      "$env/bin/python" "benchmarks/peers/${peer}_notes.py" --check
  } >"$log" 2>&1 && cp "$pins" "$env/.stamp"
}

if [ ! -x $uv ]; then
  say "FAILED: there is no $uv; run first: make setup" >&2
  exit 1
fi
# Where pip finds its packages, uv shall look too: it reads none of pip's settings.
if [ -z "${UV_FIND_LINKS:-}" ] && [ -n "${PIP_FIND_LINKS:-}" ]; then
  export UV_FIND_LINKS="${PIP_FIND_LINKS// /,}"
fi
if [ -z "${UV_DEFAULT_INDEX:-}" ] && [ -n "${PIP_INDEX_URL:-}" ]; then
  export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi
mkdir -p $envs
for peer in "${@:-${known[@]}}"; do
  if [ ! -f "benchmarks/peers/$peer.txt" ]; then
    say "no such peer: $peer; known are ${known[*]}" >&2
    failed+=("$peer")
  elif ! make_env "$peer"; then
    tail -n 8 "$envs/$peer.log" | sed 's/^/  | /' >&2
    failed+=("$peer")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  say "FAILED: ${failed[*]}; the others can be compared without" >&2
  exit 1
fi
say "ready: .venv/bin/python benchmarks/peers.py"
