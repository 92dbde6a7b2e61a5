//! A client that writes down what it was told.
//!
//! It speaks the protocol by itself and not through `raftctl::client`, because a history needs what
//! a caller of that library never sees: under which name a write was sent, at which index a read
//! was answered, on which connection. It follows the same rules: a burst of operations is sent in
//! one go, and whatever got no verdict is sent again, under its name, until it has one or the
//! burst's patience ends.

mod link;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wire::client::{Reply, ViewChoice};
use wire::command::SessionId;
use wire::error::{Class, Error as WireError};
use wire::hello::LeaderHint;
use wire::types::Index;

use self::link::{Link, Told};
use crate::history::{Answer, Operation, Passage, Record, ViewPage};
use crate::sim::random::Random;
use crate::wait;

/// How long a new connection may take to be greeted.
const GREETED_WITHIN: Duration = Duration::from_millis(500);
/// Without any answer for so long, another member is tried. Some are patient, and some are not: so
/// that the new leader is known to some while others still ask an old one that hangs.
const SILENCES: [Duration; 3] = [
    Duration::from_millis(80),
    Duration::from_millis(300),
    Duration::from_millis(1500),
];
/// Between two attempts that brought nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// When the run's clock began.
    pub began: Instant,
    /// Where clients reach the members.
    pub addrs: Vec<String>,
    /// Connections so far, over all clients: each has a number.
    pub connections: AtomicU64,
    /// When the newest answer came, in nanoseconds of the run's clock.
    pub answered_ns: AtomicU64,
    /// The longest time between two answers, in nanoseconds.
    pub longest_gap_ns: AtomicU64,
    /// For each client: whether its connection is to be reset in the middle of a burst.
    pub resets: Vec<AtomicBool>,
}

impl Shared {
    /// For so many clients of a cluster whose members serve at these addresses.
    #[must_use]
    pub fn new(addrs: Vec<String>, clients: usize) -> Self {
        Self {
            began: Instant::now(),
            addrs,
            connections: AtomicU64::new(0),
            answered_ns: AtomicU64::new(0),
            longest_gap_ns: AtomicU64::new(0),
            resets: (0..clients).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The run's clock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run ends within 584 years")
    }

    /// From now on the time between answers counts.
    pub fn start_the_gap(&self) {
        self.answered_ns.store(self.now_ns(), Ordering::Relaxed);
        self.longest_gap_ns.store(0, Ordering::Relaxed);
    }

    fn answered(&self, now_ns: u64) {
        let before = self.answered_ns.fetch_max(now_ns, Ordering::Relaxed);
        let gap = now_ns.saturating_sub(before);
        self.longest_gap_ns.fetch_max(gap, Ordering::Relaxed);
    }
}

/// An operation of a burst under way.
#[derive(Debug)]
struct Task {
    record: Record,
    /// An attempt left and got no verdict.
    exposed: bool,
    /// On the current connection, under this frame id, unanswered.
    sent: bool,
    settled: bool,
    /// What is to be read behind its answer.
    following: Option<ViewPage>,
}

/// One client: one session, one connection at a time, one burst at a time.
#[derive(Debug)]
pub struct Client<'a> {
    shared: &'a Shared,
    number: u64,
    random: Random,
    link: Option<Link>,
    session: Option<SessionId>,
    next_seq: u64,
    /// Whom to try next.
    target: usize,
    /// The newest entry that it was told of.
    newest: Index,
    /// How often it reset its connection on demand.
    pub resets: u64,
    /// Pages of views that it read, behind the first ones.
    pub pages: u64,
    /// Everything it asked.
    pub records: Vec<Record>,
    /// Something it was told that the protocol does not allow here.
    pub complaint: Option<String>,
}

impl<'a> Client<'a> {
    /// A client that connects when it first asks.
    #[must_use]
    pub fn new(shared: &'a Shared, number: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let target = random.index(shared.addrs.len());
        Self {
            shared,
            number,
            random,
            link: None,
            session: None,
            next_seq: 1,
            target,
            newest: Index(0),
            resets: 0,
            pages: 0,
            records: Vec::new(),
            complaint: None,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The newest entry that it was told of.
    #[must_use]
    pub fn newest(&self) -> Index {
        self.newest
    }

    /// Forgets everything, as if another client came in its place.
    pub fn be_reborn(&mut self) {
        self.link = None;
        self.session = None;
    }

    /// Goes to this member, if it is not there.
    pub fn visit(&mut self, member: usize) {
        self.link = None;
        self.target = member;
    }

    /// Names a command: the operation that a burst may hold. Needs a connection for a new session;
    /// `None` if there is none to be had.
    pub fn name(&mut self, command: crate::history::Command) -> Option<Operation> {
        if self.session.is_none() {
            let welcome = &self.reach()?.welcome;
            self.session = Some(SessionId {
                epoch: welcome.epoch,
                born: welcome.applied,
                nonce: self.random.bits(),
            });
            self.next_seq = 1;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let session = self.session?;
        Some(Operation::Write {
            session,
            seq,
            command,
        })
    }

    /// Does a burst: sends all, and settles all, within `patience`. The records are the newest of
    /// [`Client::records`], in order. With `breaks` the first connection is reset when everything
    /// was sent; what was sent on it may or may not arrive. What is given up may still take effect,
    /// and mostly the connection stays: a leader that hangs gets more to do.
    pub fn burst(&mut self, operations: Vec<Operation>, patience: Duration, breaks: bool) {
        self.settle(operations, ViewChoice::Now, patience, breaks);
    }

    /// Reads a range at one revision, page by page from the member that answers the first one, within
    /// `patience`. The view may be lost on the way.
    pub fn read_view(&mut self, read: Operation, patience: Duration) {
        let end = Instant::now() + patience;
        let mut next = self.settle(vec![read], ViewChoice::Keep, patience, false);
        while let Some(page) = next {
            next = self.read_page(&page, end);
        }
    }

    /// Asks for a page of a view on the connection of the pages before it; returns what follows.
    fn read_page(&mut self, page: &ViewPage, end: Instant) -> Option<ViewPage> {
        let (shared, number, invoked_ns) = (self.shared, self.number, self.shared.now_ns());
        let link = self.link.as_mut()?;
        let place = link.queue(&page.to_wire(deadline_ms(end)));
        link.flush(end);
        let mut judged = None;
        while judged.is_none() {
            let told = link.receive(end, |id, reply| {
                // What an earlier burst gave up may still be answered.
                if id == place {
                    let times = (invoked_ns, shared.now_ns());
                    judged = Some(page.judge(reply, number, times)?);
                }
                Ok(())
            });
            match told {
                Ok(Told::Answers) => {}
                Ok(Told::Nothing) if Instant::now() < end => {}
                told => {
                    if let Err(Some(complaint)) = told {
                        self.complaint.get_or_insert(complaint);
                    }
                    self.link = None;
                    return None;
                }
            }
        }
        let (record, following) = judged.flatten()?;
        self.pages += 1;
        self.records.push(record);
        following
    }

    /// A burst of which reads have their states kept or not; returns what follows the last of them.
    fn settle(
        &mut self,
        operations: Vec<Operation>,
        view: ViewChoice,
        patience: Duration,
        mut breaks: bool,
    ) -> Option<ViewPage> {
        let invoked_ns = self.shared.now_ns();
        let mut tasks: Vec<Task> = operations
            .into_iter()
            .map(|operation| Task {
                record: Record {
                    client: self.number,
                    invoked_ns,
                    ended_ns: None,
                    passage: None,
                    operation,
                    answer: Answer::NotApplied,
                },
                exposed: false,
                sent: false,
                settled: false,
                following: None,
            })
            .collect();
        let end = Instant::now() + patience;
        while tasks.iter().any(|task| !task.settled) && Instant::now() < end {
            if let Some(hint) = self.attempt(&mut tasks, view, end, &mut breaks) {
                self.follow(&hint);
            }
        }
        if tasks.iter().any(|task| task.sent) && self.random.below(4) == 0 {
            self.link = None;
        }
        let now_ns = self.shared.now_ns();
        let mut following = None;
        for mut task in tasks {
            if !task.settled {
                task.record.ended_ns = Some(now_ns);
                let open = task.exposed || task.sent;
                task.record.answer = if open {
                    Answer::Unknown
                } else {
                    Answer::NotApplied
                };
            }
            self.newest = self.newest.max(task.record.index().unwrap_or_default());
            self.records.push(task.record);
            following = task.following;
        }
        following
    }

    /// One go at all that is not settled, on one connection. Returns where to go next, if a server
    /// told.
    fn attempt(
        &mut self,
        tasks: &mut [Task],
        view: ViewChoice,
        end: Instant,
        breaks: &mut bool,
    ) -> Option<LeaderHint> {
        if self.reach().is_none() {
            pause(end);
            return None;
        }
        let link = self.link.as_mut()?;
        send(link, tasks, view, end);
        if std::mem::take(breaks) {
            self.resets += 1;
            link.reset();
        }
        let mut hint = None;
        let mut refused = false;
        let silence = *self.random.pick(&SILENCES);
        while tasks.iter().any(|task| task.sent) {
            let until = end.min(Instant::now() + silence);
            let told = link.receive(until, |frame_id, reply| {
                let task = tasks.iter_mut().find(|task| {
                    let place = task.record.passage.map(|passage| passage.place);
                    task.sent && place == Some(frame_id)
                });
                // What an earlier burst gave up may still be answered.
                let Some(task) = task else { return Ok(()) };
                task.sent = false;
                if let Some(answer) = Answer::from_reply(reply) {
                    task.record.answer = answer;
                    task.record.ended_ns = Some(self.shared.now_ns());
                    task.settled = true;
                    task.following = ViewPage::second(&task.record.operation, reply);
                    self.shared.answered(self.shared.now_ns());
                    return Ok(());
                }
                refused = true;
                let Reply::Error(error) = reply else {
                    return Err(format!("answered by {reply:?}"));
                };
                match error {
                    WireError::NotLeader { leader } => hint = Some(leader.clone()),
                    WireError::Lagging(lag) => hint.clone_from(&lag.better),
                    // A name that was given up cannot be told of any more.
                    WireError::Stale | WireError::SessionExpired if task.exposed => {
                        task.record.answer = Answer::Unknown;
                        task.record.ended_ns = Some(self.shared.now_ns());
                        task.settled = true;
                    }
                    error => match error.class() {
                        Class::NotApplied => {}
                        Class::Unknown => task.exposed = true,
                        Class::Final => return Err(format!("refused for good: {error}")),
                    },
                }
                Ok(())
            });
            match told {
                Ok(Told::Answers) => {}
                Ok(Told::Nothing) if Instant::now() < until => {}
                Ok(Told::Nothing) | Err(None) => {
                    self.lose(tasks);
                    return None;
                }
                Err(Some(complaint)) => {
                    self.complaint.get_or_insert(complaint);
                    self.lose(tasks);
                    return None;
                }
            }
        }
        if refused && hint.is_none() {
            pause(end);
        }
        hint
    }

    /// The connection is of no more use: what was sent on it has no verdict.
    fn lose(&mut self, tasks: &mut [Task]) {
        self.link = None;
        self.target = self.random.index(self.shared.addrs.len());
        for task in tasks {
            task.exposed |= task.sent;
            task.sent = false;
        }
    }

    /// Makes a connection if there is none; to another member the next time, if that fails.
    fn reach(&mut self) -> Option<&Link> {
        if self.link.is_none() {
            let number = self.shared.connections.fetch_add(1, Ordering::Relaxed);
            let addr = &self.shared.addrs[self.target];
            match Link::dial(addr, number, Instant::now() + GREETED_WITHIN) {
                Ok(link) => self.link = Some(link),
                Err(_) => self.target = (self.target + 1) % self.shared.addrs.len(),
            }
        }
        self.link.as_ref()
    }

    fn follow(&mut self, hint: &LeaderHint) {
        let known = self
            .shared
            .addrs
            .iter()
            .position(|addr| *addr == hint.client_addr);
        let random = self.random.index(self.shared.addrs.len());
        self.visit(known.unwrap_or(random));
    }
}

/// Sends all that is not settled. What never left stays unsent.
fn send(link: &mut Link, tasks: &mut [Task], view: ViewChoice, end: Instant) {
    let deadline_ms = deadline_ms(end);
    let floor = tasks.iter().find_map(|task| match task.record.operation {
        Operation::Write { seq, .. } if !task.settled => Some(seq),
        _ => None,
    });
    for task in tasks.iter_mut().filter(|task| !task.settled) {
        let operation = &task.record.operation;
        let request = operation.to_wire(deadline_ms, floor.unwrap_or(1), view);
        let place = link.queue(&request);
        let connection = link.number;
        task.record.passage = Some(Passage { connection, place });
        task.sent = true;
    }
    // If it fails some of it may have left: then it has no verdict, which the next read tells.
    link.flush(end);
}

/// How long a request may take that is given up then.
fn deadline_ms(end: Instant) -> u32 {
    let left = end.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// A moment, so that nobody is asked in a tight loop.
fn pause(end: Instant) {
    let until = (Instant::now() + PAUSE).min(end);
    wait::until_true("a moment passes", PAUSE * 100, || Instant::now() >= until);
}
