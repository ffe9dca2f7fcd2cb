//! What the cluster says: messages of a hand-over with every reason to refuse, and the beat with every state and flag.

use tandem::base::{Epoch, NodeId};
use tandem::cluster::{BEAT_LEN, Beat, Flags, HaMode, Message, Mode, ModeStep, NoMessage, Refusal, State};

use super::{hex, octets};

const BEAT: &str = "\
    010102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e050101c800000000000021222324252627283132333435363738\
    41424344454647485152535455565758";

const TERM: Epoch = Epoch { counter: 0x0102_0304, node: NodeId(0x0506) };

/// Every message and its octets.
const MESSAGES: [(Message, &str); 12] = [
    (Message::Request, "01"),
    (Message::Prepare { term: TERM, urgent: true }, "0201020304050601"),
    (Message::Prepare { term: TERM, urgent: false }, "0201020304050600"),
    (Message::Ready { term: TERM }, "03010203040506"),
    (Message::Refuse { term: TERM, why: Refusal::Withdrawn }, "040102030405060d"),
    (Message::Take { term: TERM, counter: 0x0708_090a }, "050102030405060708090a"),
    (Message::Taken { epoch: TERM }, "06010203040506"),
    (Message::Abort { term: TERM }, "07010203040506"),
    (Message::Goodbye, "08"),
    (mode(ModeStep::Ask, HaMode::None), "09000000010203040506"),
    (mode(ModeStep::Refuse(Refusal::PeerServes), HaMode::ActiveStandby), "09031001010203040506"),
    (mode(ModeStep::Set, HaMode::ActiveActive), "09040002010203040506"),
];

const REFUSALS: [(Refusal, u8); 17] = [
    (Refusal::NoPeer, 1),
    (Refusal::NotArmed, 2),
    (Refusal::LinkDown, 3),
    (Refusal::PeerUnfit, 4),
    (Refusal::PeerUnusable, 5),
    (Refusal::NobodyActive, 6),
    (Refusal::Busy, 7),
    (Refusal::PeerAlive, 8),
    (Refusal::UnknownMember, 9),
    (Refusal::Leaving, 10),
    (Refusal::OtherTerm, 11),
    (Refusal::TimedOut, 12),
    (Refusal::Withdrawn, 13),
    (Refusal::Apart, 14),
    (Refusal::NoSuchMode, 15),
    (Refusal::PeerServes, 16),
    (Refusal::Other, 255),
];

const fn mode(step: ModeStep, mode: HaMode) -> Message {
    Message::Mode { step, to: Mode { mode, word: TERM } }
}

fn written(message: Message) -> String {
    let mut octets = Vec::new();
    message.write(&mut octets);
    hex(&octets)
}

#[test]
fn every_message_is_written_and_read_as_it_was_frozen() {
    for (message, frozen) in MESSAGES {
        assert_eq!(written(message), frozen, "{message:?}");
        assert_eq!(Message::read(&octets(frozen)), Ok(message), "{frozen}");
        assert_eq!(Message::read(&octets(&format!("{frozen}99"))), Ok(message), "with a field of a later version");
    }
    assert_eq!(Message::read(&[10]), Err(NoMessage::Kind(10)), "a kind of a later version");
    for (why, number) in REFUSALS {
        let (message, frozen) = (Message::Refuse { term: TERM, why }, format!("04010203040506{number:02x}"));
        assert_eq!((written(message), Message::read(&octets(&frozen))), (frozen, Ok(message)));
    }
}

fn beat() -> Beat {
    Beat {
        cluster: 0x0102_0304_0506_0708,
        node: NodeId(0x090a),
        incarnation: 0x0b0c_0d0e_0f10_1112,
        epoch: Epoch { counter: 0x1314_1516, node: NodeId(0x1718) },
        term: Epoch { counter: 0x191a_1b1c, node: NodeId(0x1d1e) },
        state: State::Giving,
        flags: Flags::FIT.with(Flags::LEAVING, true),
        priority: 200,
        counter: 0x2122_2324_2526_2728,
        echo_incarnation: 0x3132_3334_3536_3738,
        echo: 0x4142_4344_4546_4748,
        config: 0x5152_5354_5556_5758,
    }
}

#[test]
fn the_whole_beat_is_written_and_read_as_it_was_frozen() {
    let mut written = Vec::new();
    beat().write(&mut written);
    assert_eq!((hex(&written).as_str(), written.len()), (BEAT, BEAT_LEN));
    assert_eq!(Beat::read(&octets(BEAT)), Ok(beat()));
    let states = [State::Starting, State::Standby, State::Active, State::Asking, State::Giving, State::Leaving];
    for (state, number) in states.into_iter().zip(1..) {
        let mut frozen = octets(BEAT);
        frozen[31] = number;
        assert_eq!(Beat::read(&frozen), Ok(Beat { state, ..beat() }));
    }
}

#[test]
fn flags_of_a_beat_have_their_bits_and_those_of_a_later_version_mean_nothing() {
    let flags = [
        Flags::FIT,
        Flags::USABLE,
        Flags::ARMED,
        Flags::REACHES,
        Flags::LATE,
        Flags::HOLDS,
        Flags::CALLS,
        Flags::ON_SILENCE,
        Flags::LEAVING,
        Flags::TELLS,
    ];
    for (bit, flag) in flags.into_iter().enumerate() {
        assert_eq!(flag, Flags(1 << bit));
    }
    let mut later = octets(BEAT);
    later[32] = 0xfc;
    later[33] = 0;
    later[35..41].fill(0xff);
    later.extend_from_slice(b"fields of a later version");
    let read = Beat::read(&later).unwrap();
    assert!(flags.iter().all(|flag| !read.flags.has(*flag)), "{read:?}");
    assert_eq!(Beat { flags: beat().flags, ..read }, beat());
}
