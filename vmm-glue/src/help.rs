//! What `help` prints.

pub const VERSION: &str = concat!("nkctl utility, netkitd-", env!("CARGO_PKG_VERSION"), "\n");

pub const GENERAL: &str = "\
Usage: nkctl [ OPTIONS ] OBJECT { COMMAND | help }
where  OBJECT := { link | attach | detach | drops | vm | prog | map | net | trace | route | neigh |
                    worker | uplink | queue | nic }
       OPTIONS := { -V[ersion] | -h[elp] | -s[tatistics] | -d[etails] | -j[son] | -p[retty] |
                    -a[pi] SOCKET }

       nkctl link { add | set | change | delete | show } ...
       nkctl attach DEV { vhost-user path SOCKET [ mode { server | client } ] [ queues N ] |
                          tap [ ifname NAME ] | uplink NAME [ { mac LLADDR... | ip PREFIX... } ] }
       nkctl detach DEV
       nkctl drops [ DEV ]
       nkctl vm args DEV { qemu | cloud-hypervisor | libvirt }
       nkctl prog { show | load | check | dump | run | tracelog | unload | resume } ...
       nkctl net { show | attach | detach } ...
       nkctl link { show | update | detach | delete } { bpf | id N } ...
       nkctl map { show | dump | lookup | update | delete | getnext | ... } ...
       nkctl trace DEV packet FRAME
       nkctl { route | neigh } { show | add | delete } ...
       nkctl worker { show | move } ...
       nkctl uplink { show | add | set | delete } ...
       nkctl queue { show | lease } ...
       nkctl nic { show | pass | return } ...

Options stand before the object. \"nkctl OBJECT help\" says more.

SOCKET is that of netkitd's API: by default what the environment variable NETKITD_API says,
or else /run/netkitd/api.sock.

Exit codes: 0 done, 1 no such device or no netkitd, 2 refused by netkitd or a VMM, 255 bad command
line.
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

       nkctl link help [ netkit | bpf ]

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

pub const BPF_LINK: &str = "\
Usage: nkctl link show { bpf | [ bpf ] id ID }
       nkctl link update id ID prog PROG [ expected PROG ]
       nkctl link detach id ID
       nkctl link delete id ID

PROG := { [ id ] ID | [ name ] NAME | tag TAG }

These are BPF links: each holds a program in the list of a device, see \"nkctl net attach ... link\".
update puts another program in its place, with expected only if the link holds that one now.
detach takes the program out of the list and keeps the link. A device that is called bpf or id is
reached by \"dev bpf\".
";

pub const ATTACH: &str = "\
Usage: nkctl attach DEVICE vhost-user path SOCKET [ mode { server | client } ] [ queues N ]
       nkctl attach DEVICE tap [ ifname NAME ] [ queues N ] [ fd FD ]
       nkctl attach DEVICE uplink NAME [ share { mac | ip } ] [ { mac LLADDR... | ip PREFIX... } ]
       nkctl detach DEVICE

DEVICE := [ dev ] NAME

vhost-user puts a guest behind the device. mode is netkitd's side of the socket: with server, the
default, netkitd listens and the VMM connects. N is the number of queue pairs, by default 1.

tap puts a host netdev behind the device: NAME, or one that the kernel names. FD is a tap that
netkitd inherited when it was started.

uplink puts a NIC behind the device, see \"nkctl uplink help\". Alone, the device is wired straight to
it and gets all its frames. With mac, it shares the NIC with other devices and gets the frames for
these Ethernet addresses, or with just \"share mac\" those for the address of the device's other end;
with ip, for devices in L3 mode, those for these addresses.
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

pub const PROG: &str = "\
Usage: nkctl prog { show | list } [ PROG ]
       nkctl prog load OBJ [ name NAME ] [ pinmaps ] [ map name NAME { pinned NAME | id ID } ]...
       nkctl prog check OBJ [ name NAME ] [ map name NAME { pinned NAME | id ID } ]...
       nkctl prog dump { xlated | jited } PROG [ { file FILE | [ opcodes ] [ linum ] } ]
       nkctl prog run PROG data_in FILE [ data_out FILE [ data_size_out L ] ]
                [ ctx_in FILE ] [ ctx_out FILE [ ctx_size_out M ] ] [ repeat N ] [ interpreter ]
       nkctl prog tracelog [ { follow | once } ]
       nkctl prog unload PROG
       nkctl prog resume PROG

PROG := { [ id ] ID | [ name ] NAME | tag TAG }

The grammar and the output are those of bpftool; -p alone asks for JSON, too. FILE may be - for
standard input or output. Programs stay until they are unloaded, attached or not.

load takes an ELF object that clang made and loads its programs, or the one of that name. pinmaps
keeps every map under its name; map uses one that is there already. check says whether the object
would load. run passes a frame through a program; ctx is struct __sk_buff. tracelog prints what
programs say with bpf_trace_printk. resume lets a program run again that was stopped too often.
";

pub const MAP: &str = "\
Usage: nkctl map { show | list } [ MAP ]
       nkctl map dump MAP
       nkctl map lookup MAP key DATA
       nkctl map update MAP [ key DATA ] value VALUE [ { any | exist | noexist } ]
       nkctl map delete MAP key DATA
       nkctl map getnext MAP [ key DATA ]
       nkctl map { push | enqueue } MAP value VALUE
       nkctl map { pop | dequeue | peek } MAP
       nkctl map event_pipe MAP [ cpu N ] [ once ]
       nkctl map freeze MAP
       nkctl map unpin MAP

MAP := { [ id ] ID | [ name ] NAME | pinned NAME }
DATA := { [ hex ] OCTET... | DIGITS }
VALUE := { DATA | prog PROG | map MAP | id ID | pinned NAME }
PROG := { [ id ] ID | [ name ] NAME | tag TAG }

The grammar and the output are those of bpftool; -p alone asks for JSON, too. An OCTET is decimal,
or hexadecimal with 0x or after hex; DIGITS are those of all octets in hexadecimal. A value of a
per-CPU map is written to every shard. VALUE is a program or a map for maps that hold such.

event_pipe prints what programs put into a ring buffer or a perf event array until it is
interrupted. Events are taken by the first who asks; with cpu those of other shards are not printed.
";

pub const NET: &str = "\
Usage: nkctl net { show | list } [ dev DEV ]
       nkctl net attach TYPE PROG dev DEV [ before [ X ] ] [ after [ X ] ] [ replace PROG ]
                [ expected-revision N ] [ link ]
       nkctl net detach TYPE [ PROG ] dev DEV [ before [ X ] ] [ after [ X ] ] [ expected-revision N ]

TYPE := { netkit_primary | netkit_peer | tcx_ingress | tcx_egress }
PROG := { [ id ] ID | [ name ] NAME | tag TAG }
X := { PROG | link ID }

Programs of a list run in its order, netkit_primary for what the primary device sends, netkit_peer
for what its peer sends. With tcx_ingress and tcx_egress DEV is an uplink, and they run for what it
receives and for what it sends. before and after without X are the front and the end of the list; a
new program goes to the end by default. With link the program is held by a BPF link, see
\"nkctl link help bpf\". expected-revision refuses the change if the list has changed meanwhile; -d
shows revisions.
";

pub const TRACE: &str = "\
Usage: nkctl trace DEVICE packet FRAME [ brief ] [ mark N ] [ priority N ] [ gso N ] [ limit N ]

DEVICE := [ dev ] NAME
FRAME := { FILE[:N] | hex:DIGITS | LAYER,LAYER... }
LAYER := { { eth | vlan | arp | ipv4 | ipv6 | udp | tcp | icmp }[(FIELD=VALUE,...)] |
           payload={ N | hex:DIGITS } }

Prints what would become of a frame that the device sends: devices, programs, instructions with the
registers that they change, helpers, verdicts. Nothing is delivered. brief leaves the instructions
out, limit shows so many at most. -d adds the frame as it would be delivered.

FILE has the frame's octets, or is a capture in the format of pcap, of which packet N is taken.

FIELD by LAYER, with its default:
       eth      src 00:00:00:00:00:00, dst 00:00:00:00:00:00, type
       vlan     id 1, priority 0, type
       arp      op request, sha 00:00:00:00:00:00, spa 10.0.0.1, tha 00:00:00:00:00:00, tpa 10.0.0.2
       ipv4     src 10.0.0.1, dst 10.0.0.2, ttl 64, tos 0, id 0, df 1, protocol
       ipv6     src fd00::1, dst fd00::2, hops 64, class 0, flow 0, next
       udp      sport 1024, dport 1025
       tcp      sport 1024, dport 1025, seq 0, ack 0, window 65535, flags S (of FSRPAUEC)
       icmp     type 8 (128 in ipv6), code 0, id 0, seq 0

Types, protocols, lengths and checksums follow from the layers. eth may be left out. For example
       nkctl trace nk0 packet 'ipv4(dst=10.1.1.7),tcp(dport=80),payload=64'
";

pub const ROUTE: &str = "\
Usage: nkctl route { show | list } domain NAME
       nkctl route { add | replace } PREFIX [ via ADDRESS ] dev DEV [ src ADDRESS ]
                                     [ metric NUMBER ] [ mtu MTU ] domain NAME
       nkctl route delete PREFIX [ via ADDRESS ] [ dev DEV ] [ src ADDRESS ]
                                 [ metric NUMBER ] [ mtu MTU ] domain NAME

PREFIX := [ to ] { default | ADDRESS[/LENGTH] }

Routes that programs of the domain look up, with bpf_fib_lookup or bpf_redirect_neigh. netns is
another word for domain. A device with a tap has the routes of the host's netdev too, shown with
proto kernel; change those with ip.
";

pub const NEIGHBOUR: &str = "\
Usage: nkctl neigh { show | list } domain NAME
       nkctl neigh { add | replace } [ to ] ADDRESS lladdr LLADDR dev DEV domain NAME
       nkctl neigh delete [ to ] ADDRESS dev DEV domain NAME

Neighbours that programs of the domain look up, with bpf_fib_lookup or bpf_redirect_neigh. netns is
another word for domain. A device with a tap has the neighbours of the host's netdev too, shown with
proto kernel; change those with ip.
";

pub const WORKER: &str = "\
Usage: nkctl worker { show | list }
       nkctl worker move DEVICE QUEUE WORKER

DEVICE := [ dev ] NAME

Workers are the threads that forward frames. Each queue that a guest has started, and each of a
tap, is served by one of them; netkitd evens out what they have to do. move puts a queue on WORKER,
where it stays until the guest starts it anew. The time that a worker was busy and the frames that
it took from a queue are counted from the start.
";

pub const UPLINK: &str = "\
Usage: nkctl uplink add [ name ] NAME [ COMMON ] [ type ] KIND [ COMMON ]
       nkctl uplink set UPLINK [ { up | down } ] [ channels N ]
       nkctl uplink delete UPLINK
       nkctl uplink { show | list } [ UPLINK ]

UPLINK := [ dev ] NAME
COMMON := [ domain NAME ] [ index IDX ]
KIND := { kernel [ dev ] IFNAME [ queues N ] |
          tap [ dev ] IFNAME [ queues N ] |
          macvtap [ dev ] IFNAME [ link LOWER ] [ mode { bridge | vepa | private | passthru } ]
                  [ queues N ] |
          af_xdp [ dev ] IFNAME [ queue N ] [ queues N ] [ mode { auto | zero-copy | copy } ]
                  [ busy-poll { off | on } ] |
          vfio [ dev ] ADDRESS [ queues N ] [ bind ] [ unsafe-noiommu ] }
(first values are the defaults if nothing is specified)

Uplinks are NICs that netkitd sends through; \"nkctl attach DEVICE uplink NAME\" puts a device on one.

kernel uses packet sockets on a host netdev, which the kernel keeps. tap and macvtap use such a
netdev, and make it if it is not there: a macvtap on top of LOWER. af_xdp uses N hardware queues of a
host netdev, from queue on. vfio drives a PCI device itself, see \"nkctl nic help\" for its ADDRESS:
bind takes it from its driver and gives it back when the uplink goes. With unsafe-noiommu it may be
without an IOMMU, and can then write to all memory of the host.

channels is how many receive queues the NIC shall have, as with ethtool -L. delete deletes the
devices that lease queues of the uplink too. show -d adds what the NIC does by itself, its queues and
the devices behind which it is; -s adds statistics, and why frames were dropped. netns is another
word for domain.
";

pub const QUEUE: &str = "\
Usage: nkctl queue { show | list } [ UPLINK ]
       nkctl queue lease DEVICE UPLINK QUEUE [ domain NAME ]

DEVICE := [ dev ] NAME

lease gives a receive queue of an uplink to a device for as long as both exist, as queue-create does
for Linux' netkit, and prints the queue's number at the device. Where the NIC cannot be told to put
the device's frames there, a note says why; netkitd then tells them apart. domain is the uplink's, if
it is not the device's. Leases are shown from the uplink's side.
";

pub const NIC: &str = "\
Usage: nkctl nic { show | list } [ ADDRESS ]
       nkctl nic pass ADDRESS [ dry-run ] [ VMM [ socket SOCKET ] ] [ id ID ]
       nkctl nic return ADDRESS [ VMM socket SOCKET ] [ id ID ]

ADDRESS is that of a PCI device, such as 0000:03:00.0 or 03:00.0.
VMM := { qemu [ bus BUS ] | cloud-hypervisor }

pass takes a NIC from the host for a guest: netkitd binds it to vfio-pci, unless the host needs it.
Then the arguments are printed that give it to a guest, by default for each VMM. With SOCKET, that of
QEMU's QMP or of cloud-hypervisor's API, it is plugged into the running guest instead; if the VMM
refuses, the host gets it back. dry-run only says whether it would be passed, and how.

return gives a NIC back to its driver. With SOCKET the guest is asked for it first. A guest that has
it otherwise must have ended.

ID is what the VMM calls it, by default nic- and the address with hyphens. QEMU's q35 machine
hot-plugs only to the BUS of a free pcie-root-port.
";
