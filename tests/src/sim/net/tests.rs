use super::*;
use crate::sim::random::MILLION;

const MS: Duration = Duration::from_millis(1);
const STALL: Duration = Duration::from_secs(10);

/// Three machines, what is on its way, and what was delivered.
struct Bench {
    net: Net,
    events: Events<Happening>,
    now: Instant,
    told: Vec<Delivery>,
}

impl Bench {
    fn new(weather: Weather) -> Self {
        Self {
            net: Net::new(3, weather, STALL, Random::new(1)),
            events: Events::default(),
            now: Instant::default(),
            told: Vec::new(),
        }
    }

    /// Machine 0 has an open connection to machine 1.
    fn connected(weather: Weather) -> (Self, u64) {
        let mut bench = Self::new(Weather::fair(MS, 4 * MS));
        let from = Socket { host: 0, name: 7 };
        let connection = bench
            .net
            .dial(bench.now, from, 1, Port::Peer, &mut bench.events);
        bench.pass(10 * MS);
        assert!(matches!(bench.told[..], [Delivery::Called { host: 1, .. }]));
        bench
            .net
            .accept(bench.now, connection, 8, &mut bench.events);
        bench.pass(10 * MS);
        assert!(matches!(
            bench.told.pop(),
            Some(Delivery::Answered(Socket { host: 0, name: 7 }))
        ));
        bench.told.clear();
        for (from, to) in [(0, 1), (1, 0)] {
            bench.net.set_weather(from, to, weather);
        }
        (bench, connection)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.events.next_at().filter(|at| *at <= end) {
            self.now = at;
            let delivery = match self.events.pop(at).expect("something is planned") {
                Happening::Arrival(arrival) => self.net.arrive(at, arrival, &mut self.events),
                Happening::Patience { connection, end } => {
                    self.net.lose_patience(at, connection, end)
                }
                Happening::Silence { connection, end } => self.net.notice_silence(connection, end),
                Happening::Unclog { from, to } => {
                    self.net.release(at, from, to, &mut self.events);
                    None
                }
                other => panic!("no matter of the network: {other:?}"),
            };
            self.told.extend(delivery);
        }
        self.now = end;
    }

    fn send(&mut self, connection: u64, end: End, bytes: &'static [u8]) {
        let bytes = Bytes::from_static(bytes);
        self.net
            .send(self.now, connection, end, bytes, &mut self.events);
    }

    /// What machine `host` received so far, and by whose doing the connection ended, if it did.
    fn heard(&self, host: Host) -> (Vec<u8>, Option<bool>) {
        let (mut all, mut ended) = (Vec::new(), None);
        for told in &self.told {
            match told {
                Delivery::Bytes(socket, bytes, _) if socket.host == host => {
                    assert_eq!(ended, None, "bytes behind the end");
                    all.extend_from_slice(bytes);
                }
                Delivery::Ended(socket, by_peer) if socket.host == host => {
                    assert_eq!(ended, None, "it ends once");
                    ended = Some(*by_peer);
                }
                _ => {}
            }
        }
        (all, ended)
    }
}

fn fair() -> Weather {
    Weather::fair(MS, 50 * MS)
}

#[test]
fn a_fair_link_keeps_the_order_and_the_end_comes_last() {
    let (mut bench, connection) = Bench::connected(fair());
    for piece in [b"a", b"b", b"c", b"d", b"e", b"f"] {
        bench.send(connection, 0, piece);
    }
    bench.net.close(bench.now, connection, 0, &mut bench.events);
    bench.pass(STALL);
    assert_eq!(bench.heard(1), (b"abcdef".to_vec(), Some(true)));
    assert_eq!(bench.heard(0), (vec![], None), "who closes is told nothing");
}

#[test]
fn a_cut_link_holds_what_is_sent_until_it_is_mended() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.net.cut(0, 1);
    bench.net.cut(0, 1);
    bench.send(connection, 0, b"held");
    bench.send(connection, 1, b"back");
    bench.pass(STALL / 2);
    bench.net.mend(bench.now, 0, 1, &mut bench.events);
    bench.pass(STALL / 4);
    assert_eq!(bench.heard(1).0, b"", "one cut is left");
    assert_eq!(bench.heard(0).0, b"back", "the other direction is whole");
    bench.net.mend(bench.now, 0, 1, &mut bench.events);
    bench.pass(100 * MS);
    assert_eq!(bench.heard(1), (b"held".to_vec(), None));
}

#[test]
fn a_kernel_gives_up_what_it_cannot_send_for_long() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.net.cut(0, 1);
    bench.send(connection, 0, b"never");
    bench.pass(STALL * 2);
    assert_eq!(bench.heard(0).1, Some(false), "by its own kernel");
    assert_eq!(
        bench.heard(1),
        (vec![], None),
        "the other end knows nothing"
    );
    bench.net.mend(bench.now, 0, 1, &mut bench.events);
    bench.send(connection, 1, b"are you there");
    bench.pass(STALL);
    assert_eq!(bench.heard(1), (vec![], Some(true)), "a reset");
}

#[test]
fn a_clogged_link_delivers_all_at_once() {
    let (mut bench, connection) = Bench::connected(fair());
    let until = bench.now + 500 * MS;
    bench.net.clog(0, 1, until, &mut bench.events);
    bench.send(connection, 0, b"a");
    bench.pass(100 * MS);
    bench.send(connection, 0, b"b");
    // It gets longer.
    bench.net.clog(0, 1, until + 100 * MS, &mut bench.events);
    bench.send(connection, 0, b"c");
    bench.pass(499 * MS);
    assert_eq!(bench.heard(1).0, b"");
    bench.pass(MS);
    assert_eq!(bench.heard(1).0, b"abc");
}

#[test]
fn a_clog_ends_when_all_is_mended() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.net.clog(0, 1, bench.now + STALL, &mut bench.events);
    bench.send(connection, 0, b"a");
    bench.pass(100 * MS);
    bench.net.mend_all(bench.now, &mut bench.events);
    bench.send(connection, 0, b"b");
    bench.pass(100 * MS);
    assert_eq!(bench.heard(1).0, b"ab");
}

#[test]
fn what_a_process_wrote_outlives_it() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.send(connection, 0, b"last words");
    bench.net.end_process(bench.now, 0, &mut bench.events);
    bench.pass(STALL);
    assert_eq!(bench.heard(1), (b"last words".to_vec(), Some(true)));
    assert_eq!(bench.net.counts.posthumous, 1);
}

#[test]
fn who_speaks_to_an_end_that_closed_is_told_even_if_its_end_was_lost() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.net.cut(0, 1);
    bench.net.close(bench.now, connection, 0, &mut bench.events);
    bench.pass(STALL * 2);
    bench.net.mend(bench.now, 0, 1, &mut bench.events);
    bench.pass(100 * MS);
    assert_eq!(bench.heard(1), (vec![], None), "the kernel gave up");
    bench.send(connection, 1, b"are you there");
    bench.pass(200 * MS);
    assert_eq!(bench.heard(1), (vec![], Some(true)));
}

#[test]
fn a_reset_is_told_to_both_ends_whatever_the_links_hold() {
    let (mut bench, connection) = Bench::connected(fair());
    bench.net.cut(0, 1);
    bench.send(connection, 0, b"held");
    bench.pass(100 * MS);
    bench.net.reset_between(bench.now, 0, 1, &mut bench.events);
    bench.pass(100 * MS);
    assert_eq!(bench.heard(1), (vec![], Some(true)));
    assert_eq!(bench.heard(0), (vec![], Some(true)));
}

#[test]
fn a_machine_without_power_says_nothing() {
    for speaks in [false, true] {
        let (mut bench, connection) = Bench::connected(fair());
        bench.send(connection, 0, b"last words");
        bench.net.set_up(0, false);
        bench.net.vanish(bench.now, 0, &mut bench.events);
        bench.pass(PROBES / 2);
        assert_eq!(bench.heard(1), (b"last words".to_vec(), None));
        bench.net.set_up(0, true);
        if speaks {
            bench.send(connection, 1, b"are you there");
            bench.pass(200 * MS);
            assert_eq!(
                bench.heard(1).1,
                Some(true),
                "the new system knows nothing of it"
            );
        }
        bench.pass(PROBES);
        assert_eq!(bench.heard(1).1, Some(speaks), "probes at the latest");
    }
}

#[test]
fn a_reset_lets_some_first_bytes_through() {
    let foul = Weather {
        resets: MILLION,
        ..fair()
    };
    let mut lengths = Vec::new();
    for seed in 0..64 {
        let (mut bench, connection) = Bench::connected(foul);
        bench.net.random = Random::new(seed);
        bench.send(connection, 0, b"abcdef");
        bench.send(connection, 0, b"nobody reads this");
        bench.pass(STALL);
        let (bytes, ended) = bench.heard(1);
        assert!(b"abcdef".starts_with(&bytes[..]), "{bytes:?}");
        assert_eq!((ended, bench.heard(0).1), (Some(true), Some(true)));
        lengths.push(bytes.len());
    }
    assert!(
        (0..=6).all(|length| lengths.contains(&length)),
        "{lengths:?}"
    );
}

#[test]
fn foul_links_lose_double_overtake_tear_and_corrupt() {
    let heard = |weather: Weather| {
        let (mut bench, connection) = Bench::connected(weather);
        for piece in [b"ab", b"cd", b"ef", b"gh"] {
            bench.send(connection, 0, piece);
            bench.pass(Duration::from_micros(100));
        }
        bench.pass(STALL);
        bench.heard(1).0
    };
    let foul = |change: fn(&mut Weather)| {
        let mut weather = Weather::fair(MS, 4 * MS);
        change(&mut weather);
        heard(weather)
    };
    assert_eq!(foul(|weather| weather.loss = MILLION), b"");
    assert_eq!(
        foul(|weather| weather.duplication = MILLION),
        b"ababcdcdefefghgh"
    );
    assert_eq!(foul(|weather| weather.tearing = MILLION), b"abcdefgh");
    assert_ne!(foul(|weather| weather.corruption = MILLION), b"abcdefgh");
    let mut overtaken = foul(|weather| weather.reordering = MILLION);
    assert_ne!(overtaken, b"abcdefgh");
    overtaken.sort_unstable();
    assert_eq!(overtaken, b"abcdefgh", "nothing is lost");
}

#[test]
fn clients_have_tcp() {
    let foul = Weather {
        loss: MILLION / 2,
        duplication: MILLION / 2,
        reordering: MILLION / 2,
        ..fair()
    };
    let mut bench = Bench::new(fair());
    for (from, to) in [(2, 1), (1, 2)] {
        bench.net.set_weather(from, to, foul);
        let tcp = bench.net.weather(from, to);
        assert_eq!((tcp.loss, tcp.duplication, tcp.reordering), (0, 0, 0));
        assert!(tcp.resets > 0);
    }
    bench.net.set_weather(0, 1, foul);
    assert_eq!(bench.net.weather(0, 1), foul);
}

/// Lets everything happen until then. The first bytes of what arrived.
fn arrivals(net: &mut Net, events: &mut Events<Happening>, until: Instant) -> Vec<u8> {
    let mut came = Vec::new();
    while let Some(now) = events.next_at().filter(|at| *at <= until) {
        let arrival = match events.pop(now) {
            Some(Happening::Arrival(arrival)) => arrival,
            Some(Happening::Unclog { from, to }) => {
                net.release(now, from, to, events);
                continue;
            }
            _ => continue,
        };
        match net.arrive(now, arrival, events) {
            Some(Delivery::Called { connection, .. }) => {
                net.accept(now, connection, 8, events);
            }
            Some(Delivery::Bytes(_, bytes, _)) => came.push(bytes[0]),
            _ => {}
        }
    }
    came
}

/// What a cut or a clog holds comes before what was sent later, whatever is on its way.
#[test]
fn a_stream_keeps_its_order() {
    for clog in [false, true] {
        let weather = Weather::fair(MS, MS);
        let mut events = Events::default();
        let mut net = Net::new(3, weather, 10_000 * MS, Random::new(1));
        let at = |tenths: u32| Instant::default() + MS / 10 * tenths;
        let socket = Socket { host: 2, name: 7 };
        let connection = net.dial(at(0), socket, 0, Port::Client, &mut events);
        arrivals(&mut net, &mut events, at(20));
        if clog {
            net.clog(2, 0, at(35), &mut events);
        }
        net.cut(2, 0);
        for (sent, byte) in [(20, b"1"), (31, b"2")] {
            let bytes = Bytes::from_static(byte);
            net.send(at(sent), connection, 0, bytes, &mut events);
            let came = arrivals(&mut net, &mut events, at(31));
            assert!(came.is_empty(), "{came:?}");
        }
        net.mend(at(32), 2, 0, &mut events);
        net.send(at(33), connection, 0, Bytes::from_static(b"3"), &mut events);
        assert_eq!(arrivals(&mut net, &mut events, at(90)), b"123");
    }
}
