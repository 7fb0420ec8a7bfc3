#!/usr/bin/env bash
# A0 · Environment set-up
#
# **Question.** How does a fresh machine with only Python and pip become one that runs every lesson, the same way each time?

# In five steps, one line each: find Python, find uv (or install it), make the lock, fill .venv, prove that it works.
#
# What makes the result the same everywhere is in pyproject.toml: exact versions of what the course uses, and
# `exclude-newer`, a date after which uploads do not exist for the resolver. A lock made next year is then the
# lock made today. requirements.txt is that lock's export with a hash for every file; `--test` says if the two differ.
#
# Two folders are made, both ignored by git: .venv (the packages) and .uv (uv itself if the machine has none,
# a log, and a mark that stands while packages are being installed). The machine's own Python is not touched.
#
# Apple Silicon: PyTorch's MPS device is found and reported, for your own work; the lessons run on the CPU.
# Small networks are slower on MPS, it has no float64, and generating text on it has known faults. JAX runs on the CPU: jax-metal, the plug-in for Apple's GPU, is no longer developed.
#
# Written for bash 3.2, which is what macOS has: no `timeout`, `mapfile`, `readlink -f` or GNU-only flags.
#
# **Next:** A1, the note on what reinforcement learning is; then A3, the lesson that this script runs at its end.

set -euo pipefail
: "${HOME:=/}"

uv_pin=0.13.8  # installed where no uv is found
uv_min_minor=9 # of uv 0.x; the same bound stands in pyproject.toml as required-version

usage() {
  cat <<'TEXT'
Usage: ./setup.sh [option ...]

Without options: makes .venv with everything the course needs, examines it (rl doctor) and runs the first
lesson, A3. It can be run again at any time, from any folder; what is already there is kept.

  --test            set up, then run all tests instead of the lesson (the same as `uv run pytest`)
  --no-lesson       set up and examine, but run no lesson
  --python X        use this Python: a version (3.12) or a path; otherwise 3.11 if there is one, then what python3 is
  --no-disk-check   go on even if the disk looks too full (7 GB are asked for on Linux, 2 GB on a Mac)
  --renew           after an edit of pyproject.toml: make a fresh lock, write requirements.txt from it, and stop
  --help            show this text

Needs Python 3.11, 3.12 or 3.13 with pip, on Linux (x86_64, aarch64) or on a Mac with Apple Silicon and macOS 14.
uv is found on the PATH, in Python (`python3 -m uv`) or in ~/.local/bin, and otherwise installed into .uv/ here.
Behind a mirror of the package index, set UV_DEFAULT_INDEX (for uv) and PIP_INDEX_URL (for pip) to its address.

Apple Silicon: the lessons run on the CPU, which is faster than MPS for small networks and has float64.
PyTorch's MPS is there for your own work (`rl doctor` reports it). JAX is CPU only; jax-metal is dead.
TEXT
}

say() { printf '  %-10s %s\n' "$1" "$2"; }

# What somebody typed, as one line can hold it.
given() {
  local text=${1//$'\n'/ }
  printf '%s' "${text:0:80}"
}

# One line: what happened, and what to do about it.
fail() {
  printf 'setup.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

mode=lesson
wanted_python=
disk_check=yes
while [ $# -gt 0 ]; do
  case $1 in
    --test) mode=tests ;;
    --no-lesson) mode=examine ;;
    --renew) mode=renew ;;
    --no-disk-check) disk_check=no ;;
    --python)
      [ -n "${2:-}" ] || fail "--python needs a version (3.12) or a path; see ./setup.sh --help" 2
      wanted_python=$2
      shift
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) fail "unknown option $(given "$1") (there are: --test, --no-lesson, --python X, --no-disk-check, --renew, --help)" 2 ;;
  esac
  shift
done

started_in=$PWD
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
cd -- "$root"
log=$root/.uv/setup.log
unfinished=$root/.uv/unfinished # stands while packages are being installed
{ mkdir -p .uv && : >"$log"; } 2>/dev/null ||
  fail "cannot write in $root: copy the course into a folder of your own and run it there"

# Whatever Ctrl-C hits, the next run repairs: the mark stays, and the half-filled .venv is made again.
child=
interrupted() {
  trap '' INT TERM
  [ -z "$child" ] || { kill -TERM "$child" && wait "$child"; } 2>/dev/null || true
  [ ! -t 1 ] || printf '\r\033[K'
  fail "interrupted; run ./setup.sh again, and it goes on from here" 130
}
trap interrupted INT TERM

# ---------------------------------------------------------------------------------------------------------
# Running a tool: its words go to the log, and only what went wrong is told, in one line.

# quietly LABEL COMMAND …: on a terminal it counts the seconds and names the large downloads under way.
quietly() {
  local label=$1 status=0 begun=$SECONDS
  shift
  : >"$log"
  "$@" >>"$log" 2>&1 &
  child=$!
  while [ -t 1 ] && kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    [ $((SECONDS - begun)) -lt 1 ] || printf '\r\033[K  %-10s %3d s %.60s' "$label" $((SECONDS - begun)) "$(downloads)"
  done
  wait "$child" || status=$?
  child=
  [ ! -t 1 ] || printf '\r\033[K'
  return "$status"
}

# The downloads that uv has begun and not finished, from its log.
downloads() {
  awk '$1 == "Downloading" { size[$2] = $3 } $1 == "Downloaded" { delete size[$2] }
       END { for (name in size) line = line ", " name " " size[name]; if (line) print "fetching " substr(line, 3) }' "$log"
}

no_space() { grep -qiE 'no space left|os error 28|errno 28|disk quota exceeded|not enough space' "$log"; }

no_index() {
  grep -qiE 'failed to fetch|error sending request|dns error|tcp connect|connection (refused|reset|broken)|timed out|peer certificate' "$log" ||
    grep -qiE 'temporary failure in name resolution|name or service not known|newconnectionerror|network is unreachable' "$log"
}

# explain DOING: reads the log and ends the set-up.
explain() {
  if no_space; then
    fail "the disk is full ($1): free some space ($needed_gb GB are needed in all) and run ./setup.sh again"
  elif no_index; then
    fail "the package index is out of reach ($1): check the network or proxy (mirror: see --help) and run ./setup.sh again"
  fi
  fail "$1 failed: $(grep -m 1 -iE '^ *(error|fatal)' "$log" || tail -n 1 "$log") (all of it: .uv/setup.log)"
}

# ---------------------------------------------------------------------------------------------------------
# 1. Python

# Prints four lines: the interpreter behind any shim or virtual environment, version, platform, macOS version.
# Old enough syntax that Python 2 can say what it is.
probe='
import platform, sys
print(getattr(sys, "_base_executable", None) or sys.executable)
print("%d.%d.%d" % sys.version_info[:3])
print("%s-%s" % (platform.system(), platform.machine()))
print(platform.mac_ver()[0])
'

found_old= # the best Python seen that is too old or too new, for the message
# Sets python, version, platform and macos if this command is a Python that the course can use.
try_python() {
  local answer
  # Asked from /, because in this folder pyenv insists on the version that .python-version names.
  answer=$(CDPATH='' cd / && "$1" -c "$probe" 2>/dev/null) || return 1
  { read -r python && read -r version && read -r platform && read -r macos || true; } <<<"$answer"
  case $version in
    3.11.* | 3.12.* | 3.13.*) return 0 ;;
  esac
  [ -n "$found_old" ] || found_old="$version ($python)"
  return 1
}

find_python() {
  local candidate
  if [ -n "$wanted_python" ]; then
    local known=("python$wanted_python" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted_python"*/bin/python)
    case $wanted_python in */*) known=() ;; esac # a path is no version
    for candidate in "$wanted_python" ${known[@]+"${known[@]}"}; do
      # A path is given relative to where the user stands.
      case $candidate in */*) [ ! -x "$started_in/$candidate" ] || candidate=$started_in/$candidate ;; esac
      try_python "$candidate" && return 0
    done
    fail "--python $(given "$wanted_python") is no Python 3.11, 3.12 or 3.13 that runs here${found_old:+: it is $found_old}" 2
  fi
  for candidate in "$root/.venv/bin/python" python3.11 python3 python python3.12 python3.13 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[123]*/bin/python "$HOME"/.local/bin/python3.1[123] \
    "$HOME"/.local/share/uv/python/cpython-3.1[123].*/bin/python3; do
    try_python "$candidate" && return 0
  done
  local seen="none was found"
  [ -z "$found_old" ] || seen="only $found_old was found"
  fail "Python 3.11, 3.12 or 3.13 is needed and $seen: install one (macOS: brew install python@3.11 · Debian, Ubuntu: sudo apt install python3 python3-pip · anywhere: pyenv install 3.11) and run ./setup.sh again"
}

check_platform() {
  case $platform in
    Linux-x86_64 | Linux-aarch64) needed_gb=7 ;; # the Linux wheel of PyTorch brings CUDA's libraries along
    Darwin-arm64)
      needed_gb=2
      [ "${macos%%.*}" -ge 14 ] || fail "PyTorch's wheels need macOS 14, this is $macos: update macOS and run ./setup.sh again"
      ;;
    Darwin-x86_64)
      fail "$python is built for Intel, for which PyTorch makes no wheels any more: on Apple Silicon install an arm64 Python (arch -arm64 brew install python@3.11) and run ./setup.sh again"
      ;;
    *) fail "no packages are built for $platform: use Linux (x86_64, aarch64; on Windows WSL) or a Mac with Apple Silicon" ;;
  esac
}

# ---------------------------------------------------------------------------------------------------------
# 2. uv

# Accepts a uv that runs and is new enough to read pyproject.toml.
try_uv() {
  local major minor
  uv_version=$("$1" --version 2>/dev/null) || return 1
  uv_version=${uv_version#uv }
  uv_version=${uv_version%% *}
  major=${uv_version%%.*}
  minor=${uv_version#*.}
  minor=${minor%%.*}
  case $major$minor in '' | *[!0-9]*) return 1 ;; esac
  [ "$major" -gt 0 ] || [ "$minor" -ge "$uv_min_minor" ] || return 1
  uv=$1
}

# pip may have put uv where no PATH leads (pyenv's shims, --user), so Python is asked where it is.
find_uv() {
  local candidate where='import uv; print(uv.find_uv_bin())'
  for candidate in "$(command -v uv || true)" "$root/.uv/tool/bin/uv" \
    "$("$python" -c "$where" 2>/dev/null || true)" "$(cd / && python3 -c "$where" 2>/dev/null || true)" \
    "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
    # Our own link in .venv would vanish with it: take what it points to.
    [ "$candidate" != "$root/.venv/bin/uv" ] || candidate=$(readlink "$candidate")
    try_uv "$candidate" && return 0
  done
  return 1
}

# Into a folder of its own (--target): the machine's Python stays as it is, which Debian's and Homebrew's demand
# (PEP 668), and no PATH matters. It appears under its final name only when it is whole.
install_uv() {
  local new=$root/.uv/tool.new
  rm -rf "$new"
  if "$python" -m pip --version >/dev/null 2>&1; then
    quietly uv env PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 \
      "$python" -m pip install --disable-pip-version-check --no-input --retries 2 --target "$new" "uv==$uv_pin" ||
      explain "installing uv"
  else # a Python without pip can often still make a virtual environment that has it
    quietly uv "$python" -m venv "$new" ||
      fail "$python has no pip to install uv with: install it (Debian, Ubuntu: sudo apt install python3-pip) and run ./setup.sh again"
    quietly uv "$new/bin/python" -m pip install --disable-pip-version-check --no-input --retries 2 "uv==$uv_pin" ||
      explain "installing uv"
  fi
  rm -rf "$root/.uv/tool"
  mv "$new" "$root/.uv/tool"
  try_uv "$root/.uv/tool/bin/uv" || fail "uv was installed and does not run: delete the folder .uv and run ./setup.sh again"
}

# uv_online LABEL ARGUMENT …: a uv command that may download. uv brings its own list of certificates; where a
# proxy signs with one of its own, the machine's list knows it, as pip does, so that is tried next.
uv_online() {
  local label=$1
  shift
  quietly "$label" "$uv" "$@" && return 0
  grep -qi 'peer certificate' "$log" && [ -z "${UV_SYSTEM_CERTS:-}" ] || return 1
  export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 # the second is the older name of the first
  say uv "trusts this machine's own certificates from here on"
  quietly "$label" "$uv" "$@"
}

# ---------------------------------------------------------------------------------------------------------
# 3. The lock

make_lock() {
  local begun=$SECONDS
  if "$uv" lock --check --offline >/dev/null 2>&1; then
    say lock "uv.lock fits pyproject.toml"
    return
  fi
  # A lock cut short by a full disk or a kill cannot be read, and it costs seconds to make.
  if ! uv_online lock lock; then
    grep -q "Failed to parse .uv.lock" "$log" || explain "making the lock"
    rm -f uv.lock
    uv_online lock lock || explain "making the lock"
  fi
  say lock "made in $((SECONDS - begun)) s"
}

# What ./setup.sh installs, one hash per file, no address.
export_lock() {
  "$uv" export --frozen --quiet --no-emit-project --no-annotate --no-header
}

renew() {
  uv_online lock lock --upgrade || explain "making a fresh lock"
  {
    echo "# What ./setup.sh installs, with the hash of every file: the lock's export, written by ./setup.sh --renew."
    echo "# Not needed for the set-up. Without uv: pip install --require-hashes -r requirements.txt"
    export_lock
  } >.uv/requirements.txt || fail "uv could not export the lock"
  mv .uv/requirements.txt requirements.txt
  say lock "made afresh; requirements.txt written from it: commit it together with pyproject.toml"
}

# An index may answer otherwise than when requirements.txt was written: a release is withdrawn, or another is
# dated anew. That is no fault of the code here, so it is told and no more; that the direct dependencies stand
# in requirements.txt as pyproject.toml pins them is a test of the suite.
compare_requirements() {
  local exported=$root/.uv/exported.txt names
  export_lock >"$exported"
  # a line with a version that stands in one of the two files only
  names=$(awk -F'==' '/^[A-Za-z]/ { count[$0]++; name[$0] = $1 }
    END { for (line in count) if (count[line] == 1 && !told[name[line]]++) printf " %s", name[line] }' \
    "$exported" requirements.txt)
  if cmp -s "$exported" <(grep -v '^#' requirements.txt); then
    say lock "its export is requirements.txt, hash for hash"
  else
    say lock "the index gives other files than requirements.txt names${names:+ for$names}; ./setup.sh --renew writes it again"
  fi
}

# ---------------------------------------------------------------------------------------------------------
# 4. The packages

# Whole GB free where this folder, or its nearest parent that exists, lives.
free_gb() {
  local folder=$1
  while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
  df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'
}

# Packages are unpacked in uv's cache and linked into .venv: one copy where both lie on one disk, else two.
check_disk() {
  local folder free
  for folder in "$root" "$("$uv" cache dir 2>/dev/null || echo "$root")"; do
    free=$(free_gb "$folder")
    case $free in '' | *[!0-9]*) continue ;; esac # a df that we cannot read is no reason to stop
    if [ "$free" -lt "$needed_gb" ] && [ "$disk_check" = yes ]; then
      fail "the disk is too full: $folder has $free GB free and $needed_gb GB are needed; free some space and run ./setup.sh again (or add --no-disk-check)"
    fi
    [ "$folder" != "$root" ] || say disk "$free GB free, $needed_gb GB needed"
  done
}

fill_venv() {
  local begun=$SECONDS
  # Packages that were being installed when the last run was cut off may be half there, which uv cannot see.
  if [ -e "$unfinished" ] || { [ -e .venv ] && ! .venv/bin/python -c "" 2>/dev/null; }; then
    say packages "the last set-up was cut off: .venv is made again"
    rm -rf .venv
  elif "$uv" sync --locked --inexact --offline --check >/dev/null 2>&1; then
    say packages "all there in .venv"
    return
  fi
  check_disk
  [ -t 1 ] || say packages "installing (the first time a download of about 3 GB on Linux, 0.5 GB on a Mac)"
  : >"$unfinished"
  if ! uv_online packages sync --locked --inexact; then
    # uv fetches everything before it touches .venv, so here nothing is half made.
    if no_index && ! no_space; then rm -f "$unfinished"; fi
    explain "installing the packages"
  fi
  rm -f "$unfinished"
  say packages "installed in .venv in $((SECONDS - begun)) s"
}

# uv leaves no bytecode behind. Where Python may not write any later on (PYTHONDONTWRITEBYTECODE, a folder that
# becomes read-only), each start would compile torch anew: seconds every time. So that is done now, once.
leave_bytecode() {
  local begun=$SECONDS
  .venv/bin/python -m chapters.course.bytecode || return 0 # a slower start is no reason to stop
  [ $((SECONDS - begun)) -lt 2 ] || say bytecode "of what the course imports, made in $((SECONDS - begun)) s"
}

# ---------------------------------------------------------------------------------------------------------
# 5. All together

echo "Setting up the course in $root"
find_python
check_platform
say python "$version ($python)"
if ! find_uv; then
  say uv "not found: installing uv $uv_pin into .uv/ with pip"
  install_uv
fi
say uv "$uv_version ($uv)"
# uv for this project and this Python, whatever the shell that started us has set.
unset VIRTUAL_ENV
export UV_PYTHON="$python" UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv
if [ "$mode" = renew ]; then
  renew
  exit 0
fi
make_lock
fill_venv
leave_bytecode
# So that `uv run …` works in the activated .venv even where uv is on no PATH.
[ -e .venv/bin/uv ] || ln -sf "$uv" .venv/bin/uv
unset UV_PYTHON UV_PYTHON_DOWNLOADS UV_PROJECT_ENVIRONMENT

if [ "$mode" = tests ]; then
  compare_requirements
  echo
  status=0
  .venv/bin/python -m pytest || status=$?
  exit "$status"
fi

echo
.venv/bin/rl doctor ||
  fail "rl doctor found a problem (above); if it is a package: delete the folder .venv and run ./setup.sh again"
if [ "$mode" = lesson ]; then
  echo
  .venv/bin/python chapters/A_foundations/A3_mdp_and_bellman.py ||
    fail "the set-up stands, but the first lesson, A3, did not end as it should (above)"
fi

echo
echo "The set-up stands. In each new terminal, first:"
[ "$started_in" = "$root" ] || printf '  cd "%s"\n' "$root"
echo "  source .venv/bin/activate"
echo "and then:"
echo "  rl next      # what to do next; rl list shows the whole course"
case $version in
  3.11.*) ;;
  *) echo "  export UV_PYTHON=${version%.*}      # only if you use \`uv run\`, which else looks for Python 3.11" ;;
esac
