//! What is known of one peer, and what follows from it: heard, silent, dead. Silence is suspicion, never proof.

use std::time::Duration;

use crate::base::{Epoch, NodeId, PathId, Time};

use super::beat::{Beat, Flags, State};
use super::config::{Mode, PeerConfig};
use super::io::{Budget, Link, Loss, Progress};
use super::notice::Notice;
use super::reason::Death;
use super::timing::Timing;

/// What a peer is to this node at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Never heard since this node started.
    Never,
    /// Heard on a path within the suspicion.
    Heard,
    /// Not heard for the suspicion, but this node was late or cut off itself and must not judge yet.
    Unjudged,
    /// On no path for the suspicion: it may be dead.
    Silent,
    /// Proved dead.
    Dead(Death),
}

/// Why a beat counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// Not newer than the last one of its incarnation on its path.
    Replayed,
    /// Of an incarnation older than one that is known, or of one that said goodbye.
    Stale,
    /// A path that the configuration does not know.
    Path,
}

/// What an accepted beat changed beyond the peer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// A new incarnation; what the old one was at last, if it had been heard for certain.
    pub replaced: Option<State>,
    /// It said goodbye.
    pub goodbye: bool,
}

/// One path to a peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    /// When a beat came last.
    pub heard_at: Option<Time>,
    /// When the first of an unbroken row came.
    heard_since: Time,
    /// Counter of the last beat that came.
    heard: u64,
    /// The last counter of this node that the peer has heard here.
    echo: u64,
    /// [`Peer::ask`] demands an echo above this.
    asked: u64,
    /// Told as silent.
    silent: bool,
    /// Told as working one way only.
    pub one_way: bool,
}

/// What is known of a peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub id: NodeId,
    pub paths: Vec<Path>,
    /// Its present life.
    pub incarnation: Option<u64>,
    /// That life has answered this one: it is no recording.
    verified: bool,
    /// An incarnation of which nothing more can come.
    gone: Option<u64>,
    /// Its latest beat.
    pub last: Option<Beat>,
    /// The highest epoch that it ever bore.
    epoch: Epoch,
    pub heard_at: Option<Time>,
    /// Since when it is heard without a gap.
    pub heard_since: Time,
    pub dead: Option<Death>,
    /// Told as silent.
    silent: bool,
    /// Nothing of its present incarnation was heard yet.
    unheard: bool,
    /// The stream link is up.
    pub link: bool,
    /// All that it had written was here once.
    pub copied: bool,
    /// Everything that it told anybody is known here, as far as it said.
    pub whole: bool,
    /// What it may have spent on calls of which this node has not heard.
    pub spent: Budget,
    /// The link had been up with this incarnation.
    linked: bool,
    /// And a new one is refused since then.
    refused: Option<Time>,
    pub sync: Progress,
    /// It is or was active beside this active node, and has not yielded yet.
    pub rival: bool,
    /// The epoch under which it was met as a second active node.
    pub met: Epoch,
    /// It has heard this node since [`Peer::ask`].
    pub answered: bool,
    /// Told as differing.
    pub differs: bool,
    /// What this node sent at that instant it has surely heard.
    pub hears_at: Time,
    /// Counter and instant of a beat of this node of which it is not known yet whether it was heard.
    sounding: Option<(u64, Time)>,
    /// It serves beside this active node, or did since the last claim here: it may own calls.
    pub serves: bool,
    /// The mode that is in force there, as it said over this link.
    pub mode: Option<Mode>,
}

impl Peer {
    pub fn new(config: PeerConfig) -> Self {
        Self {
            id: config.id,
            paths: vec![Path::default(); usize::from(config.paths)],
            incarnation: None,
            verified: false,
            gone: None,
            last: None,
            epoch: Epoch::default(),
            heard_at: None,
            heard_since: Time::ZERO,
            dead: None,
            silent: false,
            unheard: true,
            link: false,
            copied: false,
            whole: false,
            spent: Budget::Nothing,
            linked: false,
            refused: None,
            sync: Progress::default(),
            rival: false,
            met: Epoch::default(),
            answered: false,
            differs: false,
            serves: false,
            mode: None,
            hears_at: Time::ZERO,
            sounding: None,
        }
    }

    /// Takes an authentic beat of this peer; `own` is the incarnation of this node.
    pub fn beat(&mut self, now: Time, own: u64, path: PathId, beat: &Beat) -> Result<News, Ignored> {
        if usize::from(path.0) >= self.paths.len() {
            return Err(Ignored::Path);
        }
        let mut news = News::default();
        let same = self.incarnation == Some(beat.incarnation);
        if !same {
            // Epochs grow with every start: what is not above the last one is a recording or an old datagram.
            if self.gone == Some(beat.incarnation) || (self.incarnation.is_some() && beat.epoch <= self.epoch) {
                return Err(Ignored::Stale);
            }
            news.replaced = self.replace(beat.incarnation);
        }
        let one = &mut self.paths[usize::from(path.0)];
        if beat.counter <= one.heard {
            return Err(Ignored::Replayed);
        }
        if one.heard_at.is_none() || one.silent {
            one.heard_since = now;
        }
        (one.heard, one.heard_at) = (beat.counter, Some(now));
        if beat.echo_incarnation == own {
            one.echo = one.echo.max(beat.echo);
            self.verified = true;
            self.answered |= beat.echo > one.asked;
            if let Some((_, sent)) = self.sounding.take_if(|(counter, _)| beat.echo >= *counter) {
                self.hears_at = sent;
            }
        }
        if self.unheard || self.silent || self.dead.is_some() {
            (self.heard_since, self.unheard) = (now, false);
        }
        self.heard_at = Some(now);
        self.dead = None;
        self.refused = None;
        if self.last.is_none_or(|last| beat.counter >= last.counter) {
            self.epoch = self.epoch.max(beat.epoch);
            self.last = Some(*beat);
            self.serves |= beat.flags.has(Flags::SERVES);
            // The first beat of a new process says nothing of the one before.
            self.whole = if same { self.copied && beat.flags.has(Flags::TELLS) } else { self.whole };
        }
        if beat.state == State::Leaving {
            self.depart();
            news.goodbye = true;
        }
        Ok(news)
    }

    /// Takes a change of the link. As for beats, what the old incarnation was if a new one is met.
    pub fn link(&mut self, now: Time, event: Link) -> News {
        let mut news = News::default();
        match event {
            Link::Up { incarnation } => {
                if self.incarnation != Some(incarnation) {
                    // Proved by the handshake: counts even if it lost its durable counter.
                    news.replaced = self.replace(incarnation);
                } else if self.gone != Some(incarnation) {
                    self.dead = None;
                }
                (self.link, self.linked, self.verified, self.refused) = (true, true, true, None);
            }
            Link::Down(loss) => {
                (self.link, self.sync) = (false, Progress::default());
                match loss {
                    Loss::Goodbye if self.dead != Some(Death::Goodbye) => {
                        self.depart();
                        news.goodbye = true;
                    }
                    Loss::Refused if self.linked => self.refused = self.refused.or(Some(now)),
                    Loss::Goodbye | Loss::Refused | Loss::Reset | Loss::Closed | Loss::Silent => {}
                }
            }
        }
        news
    }

    fn replace(&mut self, incarnation: u64) -> Option<State> {
        let was = self.last.filter(|_| self.verified && self.dead.is_none()).map(|last| last.state);
        self.gone = self.incarnation.or(self.gone);
        self.incarnation = Some(incarnation);
        (self.verified, self.linked, self.refused, self.link) = (false, false, None, false);
        (self.copied, self.hears_at, self.sounding) = (false, Time::ZERO, None);
        (self.last, self.dead, self.answered, self.unheard) = (None, None, false, true);
        self.sync = Progress::default();
        for path in &mut self.paths {
            (path.heard, path.echo) = (0, 0);
        }
        was
    }

    fn depart(&mut self) {
        self.gone = self.incarnation;
        self.dead = Some(Death::Goodbye);
    }

    /// It said goodbye over the stream.
    pub fn goodbye(&mut self) {
        self.depart();
    }

    /// How long nothing came, as far as this node may judge: not before `judge_from`.
    pub fn quiet(&self, now: Time, judge_from: Time) -> Duration {
        now.since(self.heard_at.unwrap_or(Time::ZERO).max(judge_from))
    }

    /// What the peer is now.
    pub fn health(&self, now: Time, judge_from: Time, timing: &Timing) -> Health {
        match self.dead {
            Some(death) => Health::Dead(death),
            None if self.heard_at.is_none() => Health::Never,
            None if self.quiet(now, judge_from) >= timing.suspicion => Health::Silent,
            None if self.quiet(now, Time::ZERO) >= timing.suspicion => Health::Unjudged,
            None => Health::Heard,
        }
    }

    /// When a reset and refused link becomes proof, if it is one: a live node whose stream alone is cut goes on beating.
    pub fn proof_at(&self, judge_from: Time, timing: &Timing) -> Option<Time> {
        let refused = self.refused.filter(|_| self.dead.is_none())?;
        // The guard of a process that has just ended needs a moment to take the address away.
        Some((self.heard_at.unwrap_or(Time::ZERO).max(judge_from) + timing.missed()).max(refused + timing.kick))
    }

    /// From now on [`Peer::answered`] means: it has heard a beat with a counter above `counter`.
    pub fn ask(&mut self, counter: u64) {
        self.answered = false;
        for path in &mut self.paths {
            path.asked = counter;
        }
    }

    /// A beat with this counter is sent to it.
    pub fn sound(&mut self, now: Time, counter: u64) {
        self.sounding = self.sounding.or(Some((counter, now)));
    }

    /// Changes of silence and of direction that an operator must know.
    pub fn judge(&mut self, now: Time, judge_from: Time, sent: u64, timing: &Timing, tell: &mut impl FnMut(Notice)) {
        let health = self.health(now, judge_from, timing);
        let silent = health == Health::Silent;
        if silent && !self.silent {
            tell(Notice::PeerSilent(self.id));
        }
        self.silent = silent || (self.silent && health == Health::Unjudged);
        let within = (timing.suspicion.as_micros() / timing.beat.as_micros().max(1)) as u64;
        for (n, path) in self.paths.iter_mut().enumerate() {
            let id = PathId(n as u8);
            let quiet = now.since(path.heard_at.unwrap_or(Time::ZERO).max(judge_from).max(self.heard_since));
            let mute = health == Health::Heard && quiet >= timing.suspicion;
            if mute != path.silent && (mute || health == Health::Heard) {
                path.silent = mute;
                tell(if mute { Notice::PathSilent(self.id, id) } else { Notice::PathHeard(self.id, id) });
            }
            let since = path.heard_since.max(self.heard_since);
            let carries = health == Health::Heard && !mute && path.heard_at.is_some();
            let settled = carries && now.since(since) >= timing.suspicion * 2;
            let deaf = settled && sent.saturating_sub(path.echo) > within;
            if deaf != path.one_way && (deaf || settled) {
                path.one_way = deaf;
                tell(if deaf { Notice::OneWay(self.id, id) } else { Notice::BothWays(self.id, id) });
            }
        }
    }

    /// What to echo on a path: incarnation and counter heard last.
    pub fn echo(&self, path: usize) -> (u64, u64) {
        (self.incarnation.unwrap_or(0), self.paths[path].heard)
    }

    /// Whether it serves calls, by what it said at last.
    pub fn serves_now(&self) -> bool {
        self.state() == Some(State::Active) || self.has(Flags::SERVES)
    }

    /// Whether it may serve calls, by what it said at last.
    pub fn leads(&self) -> bool {
        self.last.is_some_and(|last| last.state.leads()) || self.has(Flags::SERVES)
    }

    /// What it said it is, at last.
    pub fn state(&self) -> Option<State> {
        self.last.map(|last| last.state)
    }

    /// Whether it said so at last.
    pub fn has(&self, flag: Flags) -> bool {
        self.last.is_some_and(|last| last.flags.has(flag))
    }

    /// Whether a path is told as silent.
    pub fn path_silent(&self, path: usize) -> bool {
        self.paths[path].silent || self.paths[path].heard_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 500;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn beat(incarnation: u64, epoch: u32, counter: u64) -> Beat {
        Beat {
            cluster: 0,
            node: NodeId(2),
            incarnation,
            epoch: Epoch { counter: epoch, node: NodeId(2) },
            term: Epoch::default(),
            state: State::Active,
            flags: Flags::FIT,
            priority: 0,
            counter,
            echo_incarnation: OWN,
            echo: 0,
            config: 0,
        }
    }

    fn peer(paths: u8) -> Peer {
        Peer::new(PeerConfig { id: NodeId(2), paths })
    }

    fn judged(peer: &mut Peer, now: Time, sent: u64) -> Vec<Notice> {
        let mut told = Vec::new();
        peer.judge(now, Time::ZERO, sent, &Timing::default(), &mut |n| told.push(n));
        told
    }

    #[test]
    fn who_says_that_its_peer_does_not_know_everything_is_believed() {
        let tells = |beat: Beat, on: bool| Beat { flags: beat.flags.with(Flags::TELLS, on), ..beat };
        let mut p = peer(1);
        p.link(at(0), Link::Up { incarnation: 1 });
        p.beat(at(0), OWN, PathId(0), &tells(beat(1, 5, 1), true)).unwrap();
        assert!(!p.whole, "nothing was copied yet");
        p.copied = true;
        p.beat(at(30), OWN, PathId(0), &tells(beat(1, 5, 2), true)).unwrap();
        p.link(at(100), Link::Down(Loss::Reset));
        assert!(p.whole, "it waits for a word before it tells anything");
        p.beat(at(130), OWN, PathId(0), &tells(beat(2, 6, 1), false)).unwrap();
        assert!(p.whole, "of the next process");
        p.copied = true;
        p.beat(at(140), OWN, PathId(0), &tells(beat(2, 6, 3), false)).unwrap();
        assert!(!p.whole);
    }

    #[test]
    fn a_beat_that_was_overtaken_says_nothing_of_what_is_known() {
        let tells = |beat: Beat, on: bool| Beat { flags: beat.flags.with(Flags::TELLS, on), ..beat };
        let mut p = peer(2);
        p.copied = true;
        p.incarnation = Some(1);
        p.beat(at(0), OWN, PathId(0), &tells(beat(1, 5, 2), false)).unwrap();
        p.beat(at(1), OWN, PathId(1), &tells(beat(1, 5, 1), true)).unwrap();
        assert!(!p.whole);
    }

    #[test]
    fn a_replayed_beat_counts_for_nothing() {
        let mut p = peer(1);
        assert_eq!(p.beat(at(0), OWN, PathId(0), &beat(1, 5, 10)), Ok(News::default()));
        assert_eq!(p.beat(at(100), OWN, PathId(0), &beat(1, 5, 10)), Err(Ignored::Replayed));
        assert_eq!(p.beat(at(100), OWN, PathId(0), &beat(1, 5, 9)), Err(Ignored::Replayed));
        assert_eq!(p.beat(at(100), OWN, PathId(9), &beat(1, 5, 11)), Err(Ignored::Path));
        assert_eq!(p.heard_at, Some(at(0)));
    }

    #[test]
    fn a_new_incarnation_is_known_by_its_higher_epoch_and_an_old_one_does_not_come_back() {
        let mut p = peer(1);
        p.beat(at(0), OWN, PathId(0), &beat(1, 5, 1_000)).unwrap();
        let news = p.beat(at(30), OWN, PathId(0), &beat(2, 6, 1)).unwrap();
        assert_eq!(news, News { replaced: Some(State::Active), goodbye: false });
        assert_eq!(p.beat(at(31), OWN, PathId(0), &beat(1, 5, 2_000)), Err(Ignored::Stale));
        assert_eq!(p.beat(at(32), OWN, PathId(0), &beat(3, 6, 1)), Err(Ignored::Stale));
        assert_eq!(p.incarnation, Some(2));
    }

    #[test]
    fn a_recording_heard_first_proves_no_death_when_the_node_itself_is_heard() {
        let mut p = peer(1);
        let recorded = Beat { echo_incarnation: 3, ..beat(1, 4, 7) };
        p.beat(at(0), OWN, PathId(0), &recorded).unwrap();
        assert_eq!(p.beat(at(10), OWN, PathId(0), &beat(2, 5, 1)), Ok(News::default()));
    }

    #[test]
    fn a_link_lets_a_node_in_that_lost_its_counter() {
        let mut p = peer(1);
        p.beat(at(0), OWN, PathId(0), &beat(1, 50, 1)).unwrap();
        assert_eq!(p.beat(at(10), OWN, PathId(0), &beat(2, 1, 1)), Err(Ignored::Stale));
        assert_eq!(p.link(at(0), Link::Up { incarnation: 2 }).replaced, Some(State::Active));
        assert_eq!(p.beat(at(20), OWN, PathId(0), &beat(2, 1, 2)), Ok(News::default()));
    }

    #[test]
    fn reset_and_refused_is_proof_once_a_beat_is_missed() {
        let timing = Timing::default();
        let mut p = peer(1);
        p.link(at(0), Link::Down(Loss::Refused));
        assert_eq!(p.proof_at(Time::ZERO, &timing), None, "refused without a link before is none");
        p.beat(at(0), OWN, PathId(0), &beat(1, 5, 1)).unwrap();
        p.link(at(0), Link::Up { incarnation: 1 });
        p.link(at(0), Link::Down(Loss::Reset));
        assert_eq!(p.proof_at(Time::ZERO, &timing), None, "reset alone is none");
        p.link(at(0), Link::Down(Loss::Refused));
        assert_eq!(p.proof_at(Time::ZERO, &timing), Some(at(30)));
        p.beat(at(20), OWN, PathId(0), &beat(1, 5, 2)).unwrap();
        assert_eq!(p.proof_at(Time::ZERO, &timing), None, "it beats: only the stream is cut");
    }

    #[test]
    fn silence_counts_from_when_this_node_may_judge() {
        let timing = Timing::default();
        let mut p = peer(1);
        assert_eq!(p.health(at(9_000), Time::ZERO, &timing), Health::Never);
        p.beat(at(0), OWN, PathId(0), &beat(1, 5, 1)).unwrap();
        assert_eq!(p.health(at(149), Time::ZERO, &timing), Health::Heard);
        assert_eq!(p.health(at(150), Time::ZERO, &timing), Health::Silent);
        assert_eq!(p.health(at(200), at(100), &timing), Health::Unjudged);
        assert_eq!(p.health(at(250), at(100), &timing), Health::Silent);
    }

    #[test]
    fn a_silent_path_beside_a_heard_one_is_told_once_and_so_is_its_return() {
        let mut p = peer(2);
        for n in 0..20 {
            p.beat(at(n * 20), OWN, PathId(0), &Beat { echo: n, ..beat(1, 5, n + 1) }).unwrap();
        }
        assert_eq!(judged(&mut p, at(390), 20), [Notice::PathSilent(NodeId(2), PathId(1))]);
        assert_eq!(judged(&mut p, at(395), 20), []);
        p.beat(at(400), OWN, PathId(1), &Beat { echo: 20, ..beat(1, 5, 21) }).unwrap();
        assert_eq!(judged(&mut p, at(401), 20), [Notice::PathHeard(NodeId(2), PathId(1))]);
    }

    #[test]
    fn a_peer_that_does_not_hear_us_is_told() {
        let mut p = peer(1);
        for n in 0..20 {
            p.beat(at(n * 20), OWN, PathId(0), &Beat { echo: 3, ..beat(1, 5, n + 1) }).unwrap();
        }
        assert_eq!(judged(&mut p, at(390), 20), [Notice::OneWay(NodeId(2), PathId(0))]);
        p.beat(at(400), OWN, PathId(0), &Beat { echo: 20, ..beat(1, 5, 21) }).unwrap();
        assert_eq!(judged(&mut p, at(401), 21), [Notice::BothWays(NodeId(2), PathId(0))]);
    }

    #[test]
    fn an_older_beat_from_a_slower_path_changes_nothing_that_was_said() {
        let mut p = peer(2);
        p.beat(at(0), OWN, PathId(0), &beat(1, 5, 9)).unwrap();
        p.beat(at(1), OWN, PathId(1), &Beat { state: State::Standby, ..beat(1, 5, 8) }).unwrap();
        assert_eq!(p.state(), Some(State::Active));
    }

    #[test]
    fn after_a_goodbye_nothing_of_that_incarnation_counts() {
        let mut p = peer(1);
        p.beat(at(0), OWN, PathId(0), &beat(1, 5, 1)).unwrap();
        let news = p.beat(at(20), OWN, PathId(0), &Beat { state: State::Leaving, ..beat(1, 5, 2) });
        assert!(news.unwrap().goodbye);
        assert_eq!(p.dead, Some(Death::Goodbye));
        p.goodbye();
        assert!(!p.link(at(0), Link::Down(Loss::Goodbye)).goodbye, "told once");
    }
}
