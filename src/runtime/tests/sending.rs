//! Whose fault it is that a datagram was not sent.

use super::*;

#[test]
fn an_error_of_one_target_that_no_queue_tells_of_is_not_blamed_on_the_next_one() {
    let server = udp("127.0.0.1:0");
    let world = World::asleep(&["udp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let stranger = udp("127.0.0.1:0");
    // Where datagrams fill the buffer, the kernel finds no room to tell which target refused: as if somebody else had
    // read that, only the error is left. Small ones fill what large ones left.
    for octets in [60_000, 1] {
        for _ in 0..1_000 {
            stranger.send_to(&vec![b'x'; octets], world.addr(0)).unwrap();
        }
    }
    let to =
        |remote| Flow { transport: Transport::Udp, listener: ListenerId(0), local: world.addr(0), remote, conn: None };
    let driver = &world.running.driver;
    for n in 0..10 {
        driver.deliver(to(closed_port()), None, b"refused");
        driver.deliver(to(server.local_addr().unwrap()), None, format!("sound {n}").as_bytes());
        assert_eq!(receive(&server).0, format!("sound {n}"));
    }
    let io = &world.running.io;
    assert_eq!(io.send_errors.iter().map(|count| count.get()).sum::<u64>(), 0);
    assert_eq!((io.icmp_errors.get(), io.datagrams_out.get()), (0, 20));
}
