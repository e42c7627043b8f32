//! The host's routes and neighbours, as devices with taps have them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netkit_api::{Neighbour, Origin, Route};
use netkit_tests::needs;
use netkit_tests::netkitd::Netkitd;

use crate::assert_has;

const TAP: &str = "nktap0";

/// A daemon in a network namespace of its own, with the pair `a`, `b`; there is a tap at `a`.
struct Host(Netkitd);

impl Host {
    fn start(test: &str) -> Option<Host> {
        if !needs::root(test) || !needs::taps(test) || !needs::mounts(test) {
            return None;
        }
        let host = Host(Netkitd::under("exec unshare --net \"$@\""));
        host.0.ok("link add a type netkit mode l2 peer name b");
        host.0.ok(&format!("attach a tap ifname {TAP}"));
        host.ip(&["link set lo up", &format!("link set {TAP} up")]);
        host.ip(&[&format!("addr add 10.9.0.1/24 dev {TAP}")]);
        Some(host)
    }

    /// Runs ip(8) in the namespace.
    fn ip(&self, lines: &[&str]) {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.0.process().id()))
            .args(["ip", "-batch", "-"])
            .stdin(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut stdin, lines.join("\n").as_bytes()).expect("ip reads");
        drop(stdin);
        assert!(child.wait().expect("ip ends").success(), "ip {lines:?}");
    }

    /// Holds the daemon while something is done, so that the kernel cannot tell it everything.
    fn hold_while(&self, action: impl FnOnce()) {
        self.0.process().signal(libc::SIGSTOP).unwrap();
        action();
        self.0.process().signal(libc::SIGCONT).unwrap();
    }

    fn routes(&self, domain: &str) -> Vec<Route> {
        self.0.client().routes(domain).expect("routes")
    }

    fn neighbours(&self, domain: &str) -> Vec<Neighbour> {
        self.0.client().neighbours(domain).expect("neighbours")
    }

    fn route(&self, destination: &str) -> Option<Route> {
        let mut routes = self.routes("host").into_iter();
        routes.find(|route| route.destination == destination)
    }

    fn neighbour(&self, address: &str) -> Option<Neighbour> {
        let mut neighbours = self.neighbours("host").into_iter();
        neighbours.find(|neighbour| neighbour.address == address)
    }

    fn wait(&self, what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is() {
            assert!(
                Instant::now() < deadline,
                "{what} is not so: {:#?} {:#?}\n{}",
                self.routes("host"),
                self.neighbours("host"),
                self.0.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn routes_and_neighbours_come_and_go_as_on_the_host() {
    let Some(host) = Host::start("routes_and_neighbours_come_and_go_as_on_the_host") else {
        return;
    };
    host.ip(&[
        &format!("route add 10.77.0.0/16 via 10.9.0.2 dev {TAP} src 10.9.0.1 metric 5 mtu 1300"),
        &format!("route add 2001:db8:7::/48 dev {TAP} metric 9"),
        &format!("route add 10.78.0.0/16 dev {TAP} table 100"),
        "route add 10.79.0.0/16 dev lo",
        &format!("neigh add 10.9.0.2 lladdr 02:00:00:00:00:09 dev {TAP}"),
        &format!("neigh add 2001:db8:7::2 lladdr 02:00:00:00:00:0a dev {TAP}"),
    ]);
    let six = "2001:db8:7::/48";
    host.wait("the last route is there", || host.route(six).is_some());
    host.wait("the last neighbour is there", || {
        host.neighbour("2001:db8:7::2").is_some()
    });
    let expected = Route {
        destination: "10.77.0.0/16".into(),
        via: Some("10.9.0.2".into()),
        device: "a".into(),
        source: Some("10.9.0.1".into()),
        mtu: Some(1300),
        metric: Some(5),
        origin: Some(Origin::Host),
    };
    assert_eq!(host.route("10.77.0.0/16"), Some(expected));
    let on_link = host.route("10.9.0.0/24").expect("the route of the address");
    assert_eq!((on_link.via, on_link.source.as_deref()), (None, Some("10.9.0.1")));
    for other in ["10.78.0.0/16", "10.79.0.0/16"] {
        assert_eq!(host.route(other), None, "another table, or another netdev");
    }
    let expected = Neighbour {
        address: "10.9.0.2".into(),
        device: "a".into(),
        lladdr: "02:00:00:00:00:09".into(),
        origin: Some(Origin::Host),
    };
    assert_eq!(host.neighbour("10.9.0.2"), Some(expected));
    assert_has(
        &host.0.ok("route show domain host"),
        &["10.77.0.0/16 via 10.9.0.2 dev a proto kernel src 10.9.0.1 metric 5 mtu 1300\n"],
    );

    host.ip(&[
        &format!("route del {six} dev {TAP}"),
        &format!("neigh del 10.9.0.2 dev {TAP}"),
    ]);
    host.wait("the route is gone", || host.route(six).is_none());
    host.wait("the neighbour is gone", || host.neighbour("10.9.0.2").is_none());
    host.ip(&["route replace 10.77.0.0/16 dev lo metric 5"]);
    host.wait("the replaced route is gone", || {
        host.route("10.77.0.0/16").is_none()
    });
    // The kernel does not notify of the IPv4 routes that go with this.
    host.ip(&[&format!("link set {TAP} down")]);
    host.wait("all routes are gone", || host.routes("host").is_empty());
}

#[test]
fn what_the_api_has_set_counts_and_is_all_that_it_may_delete_and_all_that_is_saved() {
    let test = "what_the_api_has_set_counts_and_is_all_that_it_may_delete_and_all_that_is_saved";
    let Some(mut host) = Host::start(test) else {
        return;
    };
    host.ip(&[&format!("route add 10.77.0.0/16 via 10.9.0.2 dev {TAP}")]);
    host.ip(&[&format!("neigh add 10.9.0.2 lladdr 02:00:00:00:00:09 dev {TAP}")]);
    host.wait("both are there", || {
        host.route("10.77.0.0/16").is_some() && host.neighbour("10.9.0.2").is_some()
    });
    for words in [
        "route del 10.77.0.0/16 domain host",
        "neigh del 10.9.0.2 dev a domain host",
    ] {
        assert_has(&host.0.fails(2, words), &["is the host's", "with ip"]);
    }
    host.0.ok("route add 10.77.0.0/16 via 10.9.0.3 dev a domain host");
    host.0
        .ok("neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev a domain host");
    let origins = |host: &Host| {
        let route = host.route("10.77.0.0/16").and_then(|route| route.origin);
        let neighbour = host.neighbour("10.9.0.2").and_then(|neighbour| neighbour.origin);
        (route, neighbour)
    };
    assert_eq!(origins(&host), (Some(Origin::Api), Some(Origin::Api)));

    host.0.kill();
    host.0.run();
    let left = host.routes("host");
    let of_api = left.iter().filter(|route| route.origin == Some(Origin::Api));
    assert_eq!(of_api.count(), 1);
    let same = |route: &&Route| route.destination == "10.77.0.0/16";
    assert_eq!(
        left.iter().filter(same).count(),
        1,
        "a route of the host's was saved"
    );

    host.0.ok("route del 10.77.0.0/16 domain host");
    host.0.ok("neigh del 10.9.0.2 dev a domain host");
    assert_eq!(origins(&host), (None, None));
}

#[test]
fn they_move_with_the_device_and_end_with_the_tap() {
    let Some(host) = Host::start("they_move_with_the_device_and_end_with_the_tap") else {
        return;
    };
    let there = |domain: &str| {
        host.routes(domain)
            .iter()
            .any(|it| it.destination == "10.9.0.0/24")
    };
    host.wait("the route is there", || there("host"));
    host.0.ok("link set a domain red");
    assert!(there("red") && host.routes("host").is_empty());
    host.0.ok("detach a");
    assert_eq!((host.routes("red"), host.neighbours("red")), (vec![], vec![]));

    // What was there before is found when a tap is attached, and a tap that was away when it comes back.
    host.ip(&[
        &format!("tuntap add dev {TAP} mode tap vnet_hdr"),
        &format!("link set {TAP} up"),
        &format!("addr add 10.9.0.1/24 dev {TAP}"),
    ]);
    host.0.ok(&format!("attach a tap ifname {TAP}"));
    host.wait("the route is there", || there("red"));
    host.ip(&[&format!("link set {TAP} name {TAP}x")]);
    host.ip(&[&format!("route add 10.76.0.0/16 dev {TAP}x")]);
    host.wait("the renamed one is followed", || {
        host.routes("red")
            .iter()
            .any(|it| it.destination == "10.76.0.0/16")
    });
    host.0.ok("link del a");
    assert_eq!(host.routes("red"), vec![]);
}

#[test]
fn a_storm_of_changes_ends_with_what_is_there() {
    let Some(host) = Host::start("a_storm_of_changes_ends_with_what_is_there") else {
        return;
    };
    host.hold_while(|| {
        let mut lines = Vec::new();
        for index in 0..4000 {
            let (high, low) = (index / 250, index % 250 + 1);
            lines.push(format!("route add 10.80.{high}.{low}/32 dev {TAP}"));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        host.ip(&lines);
    });
    host.ip(&[&format!("route del 10.80.0.1/32 dev {TAP}")]);
    host.wait("all but one are there", || {
        let of_storm = |route: &&Route| route.destination.starts_with("10.80.");
        host.routes("host").iter().filter(of_storm).count() == 3999
    });
    assert!(host.route("10.80.0.1/32").is_none());
}
