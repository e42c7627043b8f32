//! What `help` prints.

pub const VERSION: &str = concat!("nkctl utility, netkitd-", env!("CARGO_PKG_VERSION"), "\n");

pub const GENERAL: &str = "\
Usage: nkctl [ OPTIONS ] OBJECT { COMMAND | help }
where  OBJECT := { link | attach | detach | drops | vm }
       OPTIONS := { -V[ersion] | -h[elp] | -s[tatistics] | -d[etails] | -j[son] | -p[retty] |
                    -a[pi] SOCKET }

       nkctl link { add | set | change | delete | show } ...
       nkctl attach DEV { vhost-user path SOCKET [ mode { server | client } ] [ queues N ] | tap [ ifname NAME ] }
       nkctl detach DEV
       nkctl drops [ DEV ]
       nkctl vm args DEV { qemu | cloud-hypervisor | libvirt }

Options stand before the object. \"nkctl OBJECT help\" says more.

SOCKET is that of netkitd's API: by default what the environment variable NETKITD_API says,
or else /run/netkitd/api.sock.

Exit codes: 0 done, 1 no such device or no netkitd, 2 refused by netkitd, 255 bad command line.
";

pub const LINK: &str = "\
Usage: nkctl link add [ [ name ] NAME ] [ ATTRIBUTES ] type netkit [ NETKIT ]

       nkctl link delete DEVICE

       nkctl link set DEVICE [ { up | down } ]
                [ name NEWNAME ]
                [ address LLADDR ]
                [ mtu MTU ]
                [ domain NAME ]
                [ type netkit NETKIT ]

       nkctl link change DEVICE type netkit [ POLICY ] [ peer POLICY ]

       nkctl link show [ DEVICE ] [ up ] [ type netkit ]

       nkctl link help [ netkit ]

DEVICE := [ dev ] NAME
ATTRIBUTES := [ address LLADDR ] [ mtu MTU ] [ index IDX ]
              [ numrxqueues QUEUE_COUNT ] [ numtxqueues QUEUE_COUNT ]
              [ txqueuelen PACKETS ] [ domain NAME ] [ { up | down } ]

netns is another word for domain. txqueuelen is accepted and has no effect, since a netkit device
has no queue. Words may be abbreviated as with ip, attributes to two letters or more.
";

pub const NETKIT: &str = "\
Usage: ... netkit [ mode MODE ] [ POLICY ] [ scrub SCRUB ] [ single ] [ headroom N ] [ tailroom N ]
                  [ peer [ POLICY ] [ scrub SCRUB ] [ [ name ] NAME ] [ ATTRIBUTES ] ]

MODE: l3 | l2
POLICY: forward | blackhole
SCRUB: default | none
(first values are the defaults if nothing is specified)

To get ATTRIBUTES type 'nkctl link help'.
";

pub const ATTACH: &str = "\
Usage: nkctl attach DEVICE vhost-user path SOCKET [ mode { server | client } ] [ queues N ]
       nkctl attach DEVICE tap [ ifname NAME ] [ queues N ] [ fd FD ]
       nkctl detach DEVICE

DEVICE := [ dev ] NAME

vhost-user puts a guest behind the device. mode is netkitd's side of the socket: with server, the
default, netkitd listens and the VMM connects. N is the number of queue pairs, by default 1.

tap puts a host netdev behind the device: NAME, or one that the kernel names. FD is a tap that
netkitd inherited when it was started.
";

pub const DROPS: &str = "\
Usage: nkctl drops [ DEVICE ]

DEVICE := [ dev ] NAME

Prints how many frames each device sent that were not delivered, by reason.
";

pub const VM: &str = "\
Usage: nkctl vm args DEVICE VMM [ memory { SIZE | none } ]

DEVICE := [ dev ] NAME
VMM := { qemu | cloud-hypervisor | libvirt }

Prints what to tell the VMM so that a guest gets the device, which must be attached to a vhost-user
socket: arguments for a shell, such as qemu-system-x86_64 ... $(nkctl vm args nk1 qemu), or an XML
element for libvirt. With -j prints what plugs the device into a running guest: QEMU's QMP commands,
or the body of cloud-hypervisor's vm.add-net. On QEMU's q35 machine device_add needs a \"bus\" besides,
the id of a free pcie-root-port.

memory is about the arguments that share the guest's memory, which a guest needs once: with SIZE,
such as 2G, they are printed. By default they are printed for cloud-hypervisor (512M) and not for
QEMU.
";
