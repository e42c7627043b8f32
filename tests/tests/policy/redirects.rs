//! Frames that programs send elsewhere, and what they carry there.

use netkit_api::{Neighbour, Route};
use netkit_tests::driver::{NetDriver, Pair, Setup, packet};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::Programs;
use vmm_glue::client::End;

use crate::{A, B, assert_nothing, daemon_with, dropped, frame, number};

/// Two pairs whose primaries `x0` and `y0` are in the host's domain, and whose peers `x1` and `y1` are guests in domains
/// of their own. Programs run on what `x1` sends, so they find their targets in the host's domain.
struct Pairs {
    daemon: Netkitd,
    programs: Programs,
    x: Pair,
    y: Pair,
}

impl Pairs {
    fn new() -> Option<Pairs> {
        let (daemon, programs) = daemon_with("redirects", &["--workers", "2"])?;
        let (x, y) = (Pair::new(&daemon, "x"), Pair::new(&daemon, "y"));
        Some(Pairs {
            daemon,
            programs,
            x,
            y,
        })
    }

    /// Guests on `x1`, `x0`, `y0` and `y1`.
    fn connect(&self) -> [NetDriver; 4] {
        let setup = Setup::default();
        let ((x0, x1), (y0, y1)) = (self.x.connect(&setup).unwrap(), self.y.connect(&setup).unwrap());
        [x1, x0, y0, y1]
    }

    /// Has `program` judge what `x1` sends, with this device as the target.
    fn redirect(&self, program: &str, ifindex: u32) {
        self.target(ifindex);
        self.judge(&[program]);
    }

    fn target(&self, ifindex: u32) {
        self.programs
            .write("target", &0u32.to_ne_bytes(), &ifindex.to_ne_bytes());
    }

    /// Has these programs judge what `x1` sends.
    fn judge(&self, programs: &[&str]) {
        self.programs.set_list("x0", End::Peer, programs);
    }

    /// How many frames of `x1` were dropped for this reason.
    fn dropped(&self, reason: &str) -> u64 {
        dropped(&self.x.b, reason)
    }
}

fn mac(end: &netkit_tests::driver::End) -> [u8; 6] {
    let text = end.shown().address;
    let octets: Vec<u8> = text
        .split(':')
        .map(|it| u8::from_str_radix(it, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

#[test]
fn a_frame_goes_to_another_pair_at_egress_and_at_ingress() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, mut y0, mut y1] = pairs.connect();
    let ifindex = pairs.y.a.shown().ifindex;

    // y's primary transmits, so its peer receives.
    pairs.redirect("to_egress", ifindex);
    x1.send_frame(&frame(b"egress"));
    assert_eq!(y1.receive().frame, frame(b"egress"));
    // y's primary receives.
    pairs.redirect("to_ingress", ifindex);
    x1.send_frame(&frame(b"ingress"));
    assert_eq!(y0.receive().frame, frame(b"ingress"));
    for driver in [&mut x0, &mut y0, &mut y1] {
        assert_nothing(driver);
    }
    let transmitted = |end: &netkit_tests::driver::End| end.statistics().tx_packets;
    assert_eq!((transmitted(&pairs.x.b), transmitted(&pairs.y.a)), (2, 1));
    assert_eq!((pairs.x.b.drops(), pairs.y.a.drops()), (vec![], vec![]));

    // bpf_redirect_peer is for tc ingress.
    pairs.redirect("to_peer", ifindex);
    x1.send_frame(&frame(b"peer"));
    x1.flush();
    assert_eq!(pairs.dropped("redirect_failed"), 1);
    pairs.redirect("to_egress", ifindex);
    pairs.daemon.ok("link set y0 down");
    x1.send_frame(&frame(b"down"));
    x1.flush();
    // The target transmits it, and cannot.
    assert_eq!(pairs.dropped("redirect_failed"), 1);
    assert_eq!(pairs.y.a.drops(), vec![("sender_down".to_owned(), 1)]);
    pairs.daemon.ok("link set y0 up");
    pairs.daemon.ok("link set y0 domain red");
    x1.send_frame(&frame(b"elsewhere"));
    x1.flush();
    assert_eq!(pairs.dropped("redirect_failed"), 2);
    for driver in [&mut x0, &mut y0, &mut y1] {
        assert_nothing(driver);
    }
}

#[test]
fn a_frame_may_come_back_but_not_go_round_for_ever() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, ..] = pairs.connect();
    pairs.daemon.ok("link set x1 domain host");
    let own = pairs.x.b.shown().ifindex;
    pairs.redirect("to_ingress", own);
    x1.send_frame(&frame(b"back"));
    assert_eq!(x1.receive().frame, frame(b"back"));
    pairs.redirect("to_egress", own);
    x1.send_frame(&frame(b"round and round"));
    x1.flush();
    assert_eq!(pairs.dropped("redirect_loop"), 1, "{:?}", pairs.x.b.drops());
    assert_nothing(&mut x0);
    assert_nothing(&mut x1);
}

fn domain(daemon: &Netkitd, device: &str) -> String {
    daemon.client().device(device).unwrap().domain
}

#[test]
fn a_neighbour_gets_the_frame_with_its_address() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, mut y0, mut y1] = pairs.connect();
    let (client, domain) = (pairs.daemon.client(), domain(&pairs.daemon, "y0"));
    let route = |destination: &str, via: Option<&str>| Route {
        destination: destination.to_owned(),
        via: via.map(str::to_owned),
        device: "y0".to_owned(),
        source: None,
        mtu: None,
        metric: None,
        origin: None,
    };
    let neighbour = |address: &str, lladdr: &str| Neighbour {
        address: address.to_owned(),
        device: "y0".to_owned(),
        lladdr: lladdr.to_owned(),
        origin: None,
    };
    pairs.redirect("to_neighbour", pairs.y.a.shown().ifindex);
    let sent = packet::udp(A, B, b"to a neighbour");
    let mut unknown = 0;
    let mut is_unknown = |x1: &mut NetDriver, frame: &[u8]| {
        x1.send_frame(frame);
        x1.flush();
        unknown += 1;
        assert_eq!(
            pairs.dropped("neighbour_unknown"),
            unknown,
            "{:?}",
            pairs.x.b.drops()
        );
    };
    is_unknown(&mut x1, &sent);
    client.add_route(&domain, &route("10.1.0.0/16", None)).unwrap();
    is_unknown(&mut x1, &sent);
    client
        .add_neighbour(&domain, &neighbour("10.1.0.2", "02:00:00:00:00:22"))
        .unwrap();
    // Neither is for what is no IP packet.
    is_unknown(&mut x1, &frame(b"no packet"));

    let arrives = |x1: &mut NetDriver, y1: &mut NetDriver, lladdr: u8| {
        x1.send_frame(&sent);
        let received = y1.receive().frame;
        assert_eq!(received[..6], [2, 0, 0, 0, 0, lladdr]);
        assert_eq!(received[6..12], mac(&pairs.y.a));
        assert_eq!(
            received[12..],
            sent[12..],
            "redirect_neigh does not touch the TTL"
        );
    };
    arrives(&mut x1, &mut y1, 0x22);
    // A longer prefix through a gateway wins.
    client
        .add_route(&domain, &route("10.1.0.2/32", Some("10.9.9.9")))
        .unwrap();
    is_unknown(&mut x1, &sent);
    client
        .add_neighbour(&domain, &neighbour("10.9.9.9", "02:00:00:00:00:99"))
        .unwrap();
    arrives(&mut x1, &mut y1, 0x99);
    client
        .delete_route(&domain, &route("10.1.0.2/32", Some("10.9.9.9")))
        .unwrap();
    arrives(&mut x1, &mut y1, 0x22);
    for driver in [&mut x0, &mut y0, &mut y1] {
        assert_nothing(driver);
    }
}

#[test]
fn a_program_forwards_by_the_routes_that_were_set() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, _y0, mut y1] = pairs.connect();
    let (client, domain) = (pairs.daemon.client(), domain(&pairs.daemon, "y0"));
    pairs.redirect("route", 0);
    let sent = packet::udp(A, B, b"to be routed");
    // The program writes the lookup's result into the TTL and passes: BPF_FIB_LKUP_RET_NOT_FWDED.
    let fails = |x1: &mut NetDriver, x0: &mut NetDriver, result: u8| {
        x1.send_frame(&sent);
        assert_eq!(x0.receive().frame[22], result);
    };
    fails(&mut x1, &mut x0, 4);
    let mut route = Route {
        destination: "default".to_owned(),
        via: Some("10.2.0.1".to_owned()),
        device: "y0".to_owned(),
        source: None,
        mtu: None,
        metric: None,
        origin: None,
    };
    client.add_route(&domain, &route).unwrap();
    // BPF_FIB_LKUP_RET_NO_NEIGH
    fails(&mut x1, &mut x0, 7);
    let gateway = Neighbour {
        address: "10.2.0.1".to_owned(),
        device: "y0".to_owned(),
        lladdr: "02:00:00:00:02:01".to_owned(),
        origin: None,
    };
    client.add_neighbour(&domain, &gateway).unwrap();
    x1.send_frame(&sent);
    let received = y1.receive().frame;
    assert_eq!(received[..6], [2, 0, 0, 0, 2, 1]);
    assert_eq!(received[6..12], mac(&pairs.y.a));
    assert_eq!(received[12..], sent[12..]);
    // BPF_FIB_LKUP_RET_FRAG_NEEDED
    route.mtu = Some(39);
    client.add_route(&domain, &route).unwrap();
    assert_eq!(client.routes(&domain).unwrap().len(), 1);
    fails(&mut x1, &mut x0, 8);
    client.delete_route(&domain, &route).unwrap();
    fails(&mut x1, &mut x0, 4);
}

#[test]
fn a_copy_arrives_and_the_frame_too() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, mut y0, mut y1] = pairs.connect();
    let ifindex = pairs.y.a.shown().ifindex;
    // Longer than what is linear, too.
    for payload in [&[7; 20][..], &[8; 1400]] {
        let sent = frame(payload);
        pairs.redirect("copy", ifindex);
        x1.send_frame(&sent);
        assert_eq!(x0.receive().frame, sent);
        assert_eq!(y1.receive().frame, sent);
        pairs.redirect("copy_to_ingress", ifindex);
        x1.send_frame(&sent);
        assert_eq!(x0.receive().frame, sent);
        assert_eq!(y0.receive().frame, sent);
    }
    // A copy of a frame whose checksum is left to the device: that of both must be right.
    let mut sent = packet::tcp(A, B, 9, &[5; 4000]);
    let header = packet::leave_segmentation(&mut sent, 1400);
    let expected = packet::carried(&header, &sent).payload;
    pairs.redirect("copy", ifindex);
    x1.send(0, &header, &sent);
    for driver in [&mut x0, &mut y1] {
        let received = driver.receive();
        assert_eq!(
            packet::carried(&received.header, &received.frame).payload,
            expected
        );
    }
    for driver in [&mut x0, &mut y0, &mut y1] {
        assert_nothing(driver);
    }
    // Nobody there: the frame goes on without a copy.
    pairs.redirect("copy", 0x7fff_fffe);
    x1.send_frame(&frame(b"alone"));
    assert_eq!(x0.receive().frame, frame(b"alone"));
    assert_eq!(pairs.x.b.drops(), []);
}

/// What `show_metadata` wrote.
fn metadata(frame: &[u8]) -> [u32; 7] {
    std::array::from_fn(|field| number(frame, 14 + 4 * field))
}

#[test]
fn metadata_goes_along_and_programs_see_the_receiver() {
    let Some(pairs) = Pairs::new() else { return };
    let [mut x1, mut x0, _y0, mut y1] = pairs.connect();
    let blank = frame(&[0xee; 40]);
    const OTHER_HOST: u32 = 3;
    let (x0_ifindex, y1_ifindex) = (pairs.x.a.shown().ifindex, pairs.y.b.shown().ifindex);
    pairs.daemon.ok("link set x1 domain host");
    pairs.daemon.ok("link set y1 domain host");

    // From one program of the list to the next. The ifindex is that of the device that receives.
    pairs.judge(&["set_metadata", "show_metadata"]);
    x1.send_frame(&blank);
    let seen = metadata(&x0.receive().frame);
    assert_eq!(seen, [0x11, 0x22, 0x33, 0x44, x0_ifindex, 0, OTHER_HOST]);

    // From one device to the next.
    pairs.target(pairs.y.a.shown().ifindex);
    pairs.judge(&["set_metadata", "to_egress"]);
    pairs.programs.set_list("y0", End::Primary, &["show_metadata"]);
    x1.send_frame(&blank);
    let seen = metadata(&y1.receive().frame);
    assert_eq!(seen, [0x11, 0x22, 0x33, 0x44, y1_ifindex, 0, OTHER_HOST]);

    // y leads into another domain, which is not told mark and priority. cb is no part of that.
    pairs.daemon.ok("link set y1 domain red");
    x1.send_frame(&blank);
    let seen = metadata(&y1.receive().frame);
    assert_eq!(seen, [0, 0, 0x33, 0x44, y1_ifindex, 0, OTHER_HOST]);

    // Unless nothing is to be scrubbed.
    pairs
        .daemon
        .ok("link add z0 up type netkit mode l2 scrub none peer scrub none name z1 up domain red");
    let socket = pairs.daemon.path("z1.sock");
    pairs
        .daemon
        .ok(&format!("attach z1 vhost-user path {}", socket.display()));
    let mut z1 = NetDriver::connect(&socket, Setup::default()).unwrap();
    pairs.target(pairs.daemon.client().device("z0").unwrap().ifindex);
    pairs.programs.attach("z0", End::Primary, "show_metadata");
    x1.send_frame(&blank);
    let seen = metadata(&z1.receive().frame);
    assert_eq!(seen[..4], [0x11, 0x22, 0x33, 0x44]);

    // A frame to the receiver's own address is PACKET_HOST, one to all PACKET_BROADCAST.
    pairs.judge(&["show_metadata"]);
    for (to, packet_type) in [(mac(&pairs.x.a), 0), ([0xff; 6], 1), ([1, 0, 0, 0, 0, 1], 2)] {
        x1.send_frame(&packet::ethernet(A.mac, to, &[0xee; 40]));
        assert_eq!(metadata(&x0.receive().frame)[6], packet_type);
    }
    // Every frame begins without.
    x1.send_frame(&blank);
    assert_eq!(metadata(&x0.receive().frame)[..4], [0; 4]);
}
