#!/bin/sh
# Makes the guest image of the tests: guest-image.sh [OUTDIR], by default build/guest in the workspace.
#
#   vmlinuz, initramfs.cpio              the release's cloud kernel: what a guest runs
#   vmlinuz-host, initramfs-host.cpio    the backports cloud kernel: a "host" with netkit, KVM and VFIO
#
# Kernels are downloaded from the distribution and unpacked, not installed. Does nothing when the image is there
# and this script has not changed.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

HERE="$(cd "$(dirname "$0")" && pwd)"
OUT="${1:-$(dirname "$(dirname "$HERE")")/build/guest}"

# The second line because whatever busybox starts for others is busybox again: its `timeout 9 ip` is not our `ip`.
TOOLS="
    /usr/bin/iperf3 /usr/sbin/ethtool /usr/sbin/ip /usr/sbin/tc /usr/bin/ping /usr/bin/tcpdump
    /usr/bin/dash /usr/bin/timeout /usr/bin/nohup /usr/bin/setsid /usr/bin/env /usr/bin/xargs /usr/bin/nsenter
"
# Only what a kernel has is taken, with the modules that these need.
MODULES="
    virtio_pci virtio_net virtio_console 8021q bridge dummy macvtap tun veth vhost_net
    act_mirred cls_bpf cls_matchall sch_fq sch_ingress sch_netem
    kvm_amd kvm_intel vfio_iommu_type1 vfio_pci
"

say() { echo "setup: $*"; }
fail() { echo "setup: error: $*" >&2; exit 1; }

# The kernel package that a meta package stands for; further arguments go to apt-cache.
kernel_package() { apt-cache "$@" depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p'; }

host_package() { kernel_package -t "$VERSION_CODENAME-backports" || true; }

download() { # PACKAGE
    say "downloading $1"
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$1")
}

update_lists() {
    say "updating the package lists"
    if [ "$(id -u)" -eq 0 ]; then apt-get -qq update; else sudo apt-get -qq update; fi
}

download_kernels() {
    stable="$(kernel_package)"
    host="$(host_package)"
    host="${host:-$stable}"
    [ -n "$stable" ] && download "$stable" && { [ "$host" = "$stable" ] || download "$host"; }
}

copy_with_libraries() { # ROOT FILE...
    root="$1"; shift
    for file in "$@"; do
        { echo "$file"; ldd "$file" | grep -o '/[^ ]*'; } | while read -r path; do
            mkdir -p "$root$(dirname "$path")"
            cp -Lu "$path" "$root$path"
        done
    done
}

copy_modules() { # ROOT UNPACKED-PACKAGE VERSION
    depmod -b "$2" "$3"
    for module in $MODULES; do
        modprobe -d "$2" -S "$3" --show-depends "$module" 2>/dev/null || [ "$module" != virtio_net ] \
            || fail "kernel $3 has no virtio_net"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u | while read -r path; do
        to="$1/lib/modules/$3/$(basename "${path%.xz}")"
        case "$path" in
            *.xz) xz -dc "$path" >"$to" ;;
            *) cp "$path" "$to" ;;
        esac
    done
    cp "$2/lib/modules/$3"/modules.builtin* "$2/lib/modules/$3/modules.order" "$1/lib/modules/$3/"
    depmod -b "$1" "$3"
}

make_image() { # PACKAGE SUFFIX
    version="${1#linux-image-}"
    unpacked="$work/unpacked$2"
    root="$work/root$2"
    say "making the image of kernel $version"
    dpkg-deb -x "$(ls "$work/$1"_*.deb)" "$unpacked"
    for directory in bin sbin usr/bin usr/sbin proc sys dev tmp run root etc "lib/modules/$version" lib64; do
        mkdir -p "$root/$directory"
    done
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    ln -sf /usr/bin/dash "$root/bin/sh"
    cp "$HERE/guest/init" "$root/init"
    cp "$HERE/guest/agent" "$root/sbin/agent"
    chmod 755 "$root/init" "$root/sbin/agent"
    # shellcheck disable=SC2086 # lists of words are meant
    copy_with_libraries "$root" $TOOLS
    copy_modules "$root" "$unpacked" "$version"
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$OUT/initramfs$2.cpio"
    cp "$unpacked/boot/vmlinuz-$version" "$OUT/vmlinuz$2"
}

stamp="$(cat "$0" "$HERE/guest/init" "$HERE/guest/agent" | sha256sum)"
[ "$(cat "$OUT/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

. /etc/os-release
mkdir -p "$OUT"
rm -f "$OUT/stamp"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# The lists may be missing or older than the archive: one more try with fresh ones.
download_kernels || { update_lists && download_kernels; } || fail "could not download a kernel with apt-get"
make_image "$stable" ""
if [ "$host" = "$stable" ]; then
    say "no backports kernel: the host kernel is $stable, too"
    ln -sf vmlinuz "$OUT/vmlinuz-host"
    ln -sf initramfs.cpio "$OUT/initramfs-host.cpio"
else
    make_image "$host" "-host"
fi
echo "$stamp" >"$OUT/stamp"
say "guest image is in $OUT"
