#!/bin/sh
# Installs what `make bench` and `make profile` compare with and look with, on Debian 12 and newer.
#
# Does nothing, silently, when everything is there already. A package that cannot be had is said and passed over: the
# benchmark then says which peer it did not run, and why.
set -eu

PACKAGES="clang dpdk dpdk-dev iperf3 iproute2 libbpf-dev linux-perf openvswitch-switch-dpdk util-linux"

say() { echo "setup: $*"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else say "cannot run '$*': be root or install sudo"; return 1
    fi
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# The services of the packages are not to start: the benchmark runs what it needs itself, in directories of its own.
install() {
    say "installing: $1"
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -qq install --no-install-recommends -y "$1" >/dev/null || say "could not install $1"
}

command -v apt-get >/dev/null || { say "no apt-get here: install by hand: $PACKAGES"; exit 0; }
updated=
for package in $PACKAGES; do
    is_installed "$package" && continue
    if [ -z "$updated" ]; then
        say "updating the package lists"
        as_root apt-get -qq update || true
        updated=yes
    fi
    install "$package"
done
