#!/bin/sh
# Installs what building netkitd and running its guest tests needs, on Debian 12 and newer.
#
# Does nothing, silently, when everything is there already. Uses the distribution's own sources only; QEMU comes
# from backports when the archive has them, because the tests want QEMU 10 (bookworm's own 7.2 works with less).
set -eu

PACKAGES="
    bpftool busybox-static ca-certificates clang cpio dash dpdk-dev ethtool gcc ipxe-qemu iperf3 iproute2 iputils-ping kmod
    libbpf-dev libc6-dev llvm make pkg-config qemu-system-x86 tcpdump xz-utils
"
QEMU_WANTED=1:10.0
SOURCES="/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list"

say() { echo "setup: $*"; }
fail() { echo "setup: error: $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else fail "cannot run '$*': be root or install sudo"
    fi
}

version_of() { dpkg-query -W -f='${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'; }
candidate_of() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p'; }

missing_packages() {
    for package in $PACKAGES; do
        [ -n "$(version_of "$package")" ] || echo "$package"
    done
}

update_lists() {
    say "updating the package lists"
    as_root apt-get -qq update
}

# Adds the release's backports to the sources that are there. Backports of an old release leave the archive one
# day: then the lists cannot be fetched, and the change is taken back.
enable_backports() {
    for sources in $SOURCES; do
        [ -f "$sources" ] || continue
        ! grep -q "^[^#]*$suite" "$sources" || return 0
        say "adding $suite to $sources"
        before="$(mktemp)"
        cp "$sources" "$before"
        add_suite "$sources"
        if grep -q "$suite" "$sources" && update_lists; then
            rm "$before"
            return 0
        fi
        say "$suite is not to be had: leaving $sources as it was"
        as_root cp "$before" "$sources"
        rm "$before"
        update_lists
    done
    return 1
}

# Both styles of source lists: `Suites: bookworm …`, and `deb URI bookworm main …`, of which the line is repeated.
add_suite() { # FILE
    name="$VERSION_CODENAME"
    case "$1" in
        *.sources) as_root sed -i -E "/^Suites:.*[[:space:]]${name}([[:space:]]|\$)/ s/\$/ $suite/" "$1" ;;
        *) as_root sed -i -E "/^deb .*[[:space:]]${name}[[:space:]]/ { p; s/([[:space:]])${name}([[:space:]])/\1$suite\2/ }" "$1" ;;
    esac
}

qemu_is_old() { dpkg --compare-versions "$(version_of qemu-system-x86)" lt "$QEMU_WANTED"; }
qemu_is_old_in_lists() { dpkg --compare-versions "$(candidate_of qemu-system-x86)" lt "$QEMU_WANTED"; }
backports_have_qemu() { apt-cache madison qemu-system-x86 | grep -q "$suite"; }

install() {
    say "installing: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "$@" >/dev/null
}

command -v apt-get >/dev/null || fail "this script needs a Debian system (apt-get is not here): install by hand what it lists"
. /etc/os-release
suite="${VERSION_CODENAME:-}-backports"

missing="$(missing_packages)"
if [ -n "$missing" ] || qemu_is_old; then
    candidate_of busybox-static | grep -q '[0-9]' || update_lists
fi
if qemu_is_old && qemu_is_old_in_lists && enable_backports && backports_have_qemu; then
    # These and no others: `-t` would take libraries from there, too, that the release's -dev packages do not fit.
    install "qemu-system-x86/$suite" "qemu-system-common/$suite" "qemu-system-data/$suite" "seabios/$suite"
    missing="$(missing_packages)"
fi
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words is meant
    install $missing
fi

command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup, then open a new shell"
