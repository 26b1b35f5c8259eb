#!/usr/bin/env bash
# Make .venv and install the project with its tools into it, from constraints.txt.
#
# `make` calls this when pyproject.toml, constraints.txt or this file changed; running it by hand
# does the same and never does more than is missing. What can be set from outside:
#
#   PYTHON=/path/to/python   the interpreter (3.11 or newer); else one is looked for
#   PIP_FIND_LINKS=folder    wheels of your own, e.g. a CPU build of torch
#   TORCH_BACKEND=cpu        on Linux without a GPU: take torch from PyTorch's own CPU index
#                            (download.pytorch.org; any --torch-backend of uv will do)
#   INSTALLER=pip            use pip where uv does not get through
#   MIN_FREE_GB=6            free disk to ask for
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.stamp
log=.make/setup.log
python=""
version=""
installer=${INSTALLER:-uv}
started=$SECONDS
network_trouble='dns error|name resolution|connection (refused|reset|error)|timed out|tunnel'
network_trouble="$network_trouble|certificate|network is unreachable|failed to establish"

say() { printf 'setup: %s\n' "$*"; }

# fail PROBLEM [LINE...]: name the problem, then what to do about it.
fail() {
  printf '\nsetup: FAILED: %s\n' "$1" >&2
  shift
  if [ $# -gt 0 ]; then printf '       %s\n' "$@" >&2; fi
  exit 1
}

# "3.11" from an interpreter that starts; nothing, and false, from one that does not.
version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

new_enough() {
  case $1 in
    3.1[1-9] | 3.[2-9][0-9]) true ;;
    *) false ;;
  esac
}

# Sets python and version to an interpreter that will do, or says what was found instead.
find_python() {
  local candidate candidates found=""
  candidates=(python3.11 python3.12 python3.13 python3 python)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    version=$(version_of "$candidate") || continue
    if new_enough "$version"; then
      python=$candidate
      break
    fi
    found="$found $candidate is $version,"
  done
  if [ -z "$python" ]; then
    found=${found:- nothing that starts under the name ${candidates[*]},}
    fail "Python 3.11 or newer is needed; found:${found%,}" \
      "Debian, Ubuntu: sudo apt install python3.11 python3.11-venv (or 3.12, 3.13)" \
      "macOS: brew install python@3.11.  Elsewhere: https://www.python.org/downloads/" \
      "Installed in another place? make setup PYTHON=/path/to/python3.11"
  fi
  say "Python $("$python" -c 'import platform; print(platform.python_version())') ($python)"
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) say "note: 3.11 to 3.13 are supported; some libraries may have no wheel for $version yet" ;;
  esac
}

check_venv_module() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  fail "$python cannot make virtual environments (its venv or ensurepip module is missing)" \
    "Debian, Ubuntu: sudo apt install python$version-venv, then again: make setup"
}

# The plain Linux torch brings its CUDA libraries along; nothing else differs that much in size.
check_disk() {
  local default_gb=6 need_gb free_kb
  if [ "$(uname -s)" = Linux ] && ! has_local_torch && [ -z "${TORCH_BACKEND:-}" ]; then
    default_gb=12
    command -v nvidia-smi >/dev/null 2>&1 ||
      say "note: no NVIDIA GPU seen; 'make setup TORCH_BACKEND=cpu' installs a much smaller torch"
  fi
  if [ -f $stamp ]; then default_gb=1; fi # an update of what is there
  need_gb=${MIN_FREE_GB:-$default_gb}
  free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
  [ "$free_kb" -ge $((need_gb * 1024 * 1024)) ] && return
  fail "$need_gb GB of free disk are needed in $PWD; there are $((free_kb / 1024 / 1024)) GB" \
    "Free some space and run again: make setup" \
    "To try with less: make setup MIN_FREE_GB=$((free_kb / 1024 / 1024))"
}

has_local_torch() {
  local place
  for place in ${PIP_FIND_LINKS:-}; do
    compgen -G "${place#file://}/torch-*.whl" >/dev/null && return 0
  done
  return 1
}

# A .venv that was copied from elsewhere, or whose interpreter went away, is made anew.
make_venv() {
  local have=""
  if [ -d $venv ]; then
    have=$(version_of $venv/bin/python) || have="broken"
    if [ "$have" != broken ] && ! new_enough "$have"; then have="for Python $have"; fi
    if [ -f $stamp ] && [ "$(cat $stamp)" != "$PWD" ]; then have="from another folder"; fi
    if [ -n "${PYTHON:-}" ] && [ "$have" != "$version" ]; then have="not Python $version"; fi
  fi
  case $have in
    3.*) return ;;
    "") say "making $venv" ;;
    *) say "making $venv anew: the one here is $have" ;;
  esac
  "$python" -m venv --clear $venv >>$log 2>&1 || explain "$python -m venv $venv"
}

# Where pip finds its packages, uv shall look too: it reads none of pip's settings.
aim_uv() {
  if [ -z "${UV_FIND_LINKS:-}" ] && [ -n "${PIP_FIND_LINKS:-}" ]; then
    export UV_FIND_LINKS="${PIP_FIND_LINKS// /,}"
  fi
  if [ -z "${UV_DEFAULT_INDEX:-}" ] && [ -n "${PIP_INDEX_URL:-}" ]; then
    export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
  fi
  # Without bytecode every process would compile torch and its friends again: seconds per command.
  export UV_COMPILE_BYTECODE=1 UV_COMPILE_BYTECODE_TIMEOUT=600
}

get_uv() {
  [ "$installer" = uv ] || return 0
  [ -x $venv/bin/uv ] && return
  if ! $venv/bin/python -m pip install --quiet -c constraints.txt uv >>$log 2>&1; then
    say "note: uv could not be installed, going on with pip (slower)"
    installer=pip
  fi
}

install_project() {
  say "installing the project and its tools with $installer (details: $log)"
  if [ "$installer" = uv ]; then
    $venv/bin/uv pip install --python $venv/bin/python -c constraints.txt -e ".[dev,dask,tfrecords]" \
      ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} >>$log 2>&1 || explain "uv pip install"
  else
    [ -z "${TORCH_BACKEND:-}" ] || fail "TORCH_BACKEND needs uv, which is not to be had here" \
      "Put a CPU wheel of torch into a folder and run: make setup PIP_FIND_LINKS=that-folder"
    $venv/bin/python -m pip install -c constraints.txt -e ".[dev,dask,tfrecords]" >>$log 2>&1 ||
      explain "pip install"
  fi
}

# explain WHAT: read the log of a failed step for the reason; name it, and what to do.
explain() {
  local package problem advice="To try again: make setup"
  package=$(sed -nE \
    -e 's/.*No matching distribution found for ([^ ]+).*/\1/p' \
    -e 's/.*Because ([A-Za-z0-9_.-]+) was not found in .*/\1/p' \
    -e 's/.*no versions? of ([A-Za-z0-9_.-]+[^ ]*).*/\1/p' \
    -e 's/.*Failed to (build|download|fetch|prepare)[^`]*`([^`]+)`.*/\2/p' $log | head -n 1)
  if grep -qiE 'no space left|disk quota' $log; then
    problem="the disk is full"
  elif grep -qiE "$network_trouble" $log; then
    problem="the package index could not be reached${package:+ (for $package)}"
    advice="Behind a proxy or mirror set HTTPS_PROXY, SSL_CERT_FILE or PIP_INDEX_URL. $advice"
  elif [ -n "$package" ]; then
    problem="no suitable package: $package"
    advice="Where pip gets through and uv does not: make setup INSTALLER=pip. $advice"
  else
    problem="see the lines above"
  fi
  printf '\n' >&2
  tail -n 12 $log | sed 's/^/  | /' >&2
  fail "$1: $problem" "The full log is $log." "$advice"
}

# librosa compiles parts of itself, matplotlib lists the fonts; both keep the result on disk. Done
# here, it does not slow the first run down, and shows that what was installed works.
warm_up() {
  say "first use of librosa and matplotlib, which prepare files on disk (once per environment)"
  $venv/bin/python scripts/warm_up.py >>$log 2>&1 || explain "using the installed libraries"
}

mkdir -p "$(dirname $log)"
: >$log
find_python
check_venv_module
check_disk
make_venv
aim_uv
get_uv
install_project
warm_up
printf '%s\n' "$PWD" >$stamp
have=$($venv/bin/python -c 'from importlib.metadata import version as v
print("kedro", v("kedro"), "torch", v("torch"))')
say "ready after $((SECONDS - started)) s: $have"
