//! What fuzzing found, small enough to read.

use super::world::{CALLER, World, invite, invite_with};

/// A request that is at a limit already could be forwarded, and its response would come back past the limit: nobody
/// would hear of it, and the media server would count as silent.
#[test]
fn a_request_at_a_limit_is_refused_and_not_forwarded_past_it() {
    let via = |n: usize| "Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKx\n".repeat(n);
    let field = |n: usize| "X-Field: 1\n".repeat(n);
    let text = |n: usize| format!("Subject: {}\n", "x".repeat(n));
    let one =
        tandem::base::limits::MESSAGE - tandem::base::limits::GAINED_OCTETS - invite(1).len() - "Subject: \r\n".len();
    for (more, status) in
        [(via(78), 100), (via(79), 513), (field(116), 100), (field(117), 513), (text(one), 100), (text(one + 1), 513)]
    {
        let mut world = World::new();
        let sent = world.receive(CALLER, &invite_with(1, &more));
        let told = sent.iter().find(|s| s.to() == CALLER).expect("the caller is told something");
        assert_eq!(told.status(), status, "{} octets more", more.len());
        assert_eq!(world.gauges().grants, usize::from(status == 100));
    }
}
