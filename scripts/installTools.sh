#!/usr/bin/env bash
# Installs what the cluster tests need and this machine lacks (Debian or Ubuntu, as root). Packages alone, and nothing
# that is there already: a second run does nothing and takes no time.
#
#   scripts/installTools.sh            everything
#   scripts/installTools.sh --check    only tells what is missing; exit code 1 if anything is
set -euo pipefail

# Go that can fetch the toolchain which the harness' go.mod asks for by itself (GOTOOLCHAIN=auto).
oldest_go=1.21

# command → Debian package
declare -A packages=(
  [git]=git [curl]=curl [openssl]=openssl [ip]=iproute2
  [containerd]=containerd [runc]=runc [docker-registry]=docker-registry
  [buildah]=buildah [skopeo]=skopeo [faketime]=faketime [/usr/lib/cni/bridge]=containernetworking-plugins
)

go_version() { go env GOVERSION 2>/dev/null | sed 's/^go//'; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
go_is_good() { command -v go >/dev/null && at_least "$oldest_go" "$(cd / && go_version)"; }

missing=()
for command in "${!packages[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
go_is_good || missing+=(golang-go)

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
echo "missing: ${missing[*]}"
if [ "${1:-}" = --check ]; then exit 1; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install them: this script can do so only as root, by apt-get" >&2
  exit 1
fi

too_old() {
  echo "Go $1 is older than $oldest_go and cannot fetch the toolchain that Kubernetes is built with: install Go" \
    "$oldest_go or later from https://go.dev/dl and put it on the PATH" >&2
  exit 1
}

apt-get -qq update
if ! go_is_good; then
  candidate=$(apt-cache policy golang-go | awk '/Candidate:/ { sub(/^[0-9]+:/, "", $2); print $2 }')
  at_least "$oldest_go" "$candidate" || too_old "$candidate of this system's packages"
fi
# RUNLEVEL=1: the packages' own services are not started; the tests start what they need, on ports of their own.
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "${missing[@]}" >/dev/null
go_is_good || too_old "$(cd / && go_version)"
