#!/usr/bin/env bash
# Write constraints.txt: exact versions of everything pyproject.toml asks for, and of all they need.
#
#   scripts/lock.sh             keep today's versions where pyproject.toml still allows them
#   scripts/lock.sh --upgrade   take the newest versions that go together
#
# One file serves Linux, macOS and Windows on every supported Python (lines carry markers). It holds
# no index address and no path, so it works with any mirror and with uv and pip alike.
set -euo pipefail
cd "$(dirname "$0")/.."

# Held at one release on purpose: the results in the documentation were made with it.
held="torch==2.13.0"

case "${1:-}" in
  "") options=() ;;
  --upgrade) options=(--upgrade) ;;
  *) echo "usage: scripts/lock.sh [--upgrade]" >&2; exit 2 ;;
esac
uv=.venv/bin/uv
[ -x "$uv" ] || { echo "scripts/lock.sh: $uv is missing. Run: make setup" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/lock.XXXXXX")
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$held" >"$work/held.txt"
if [ -f constraints.txt ]; then cp constraints.txt "$work/pins.txt"; fi

# Local wheels would put their own version and folder into the file: resolve from the index alone.
unset UV_FIND_LINKS PIP_FIND_LINKS
echo uv | "$uv" pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
  --constraint "$work/held.txt" --output-file "$work/pins.txt" ${options[@]+"${options[@]}"} \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

{
  echo "# Exact versions for 'make setup' and 'pip install -c constraints.txt .'."
  echo "# Made by scripts/lock.sh: change pyproject.toml and run that, do not edit."
  # The CUDA packages follow from the torch build that is installed, which pins them itself; the
  # local part of a version ("+cpu") belongs to one build and would shut out the others.
  grep -vE '^(#|nvidia-|cuda-|triton|--)' "$work/pins.txt" | sed -E 's/\+[A-Za-z0-9.]+( |$)/\1/'
} >"$work/constraints.txt"
if grep -nE '://|@ |[= ](/|file:)' "$work/constraints.txt"; then
  echo "scripts/lock.sh: the lines above name an index or a path; constraints.txt is unchanged" >&2
  exit 1
fi
mv "$work/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c '==' constraints.txt) versions"
