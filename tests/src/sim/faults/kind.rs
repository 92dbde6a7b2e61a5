//! The kinds of faults, by name: what a plan switches on and off, and what the ledger counts.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    // --- network ---
    /// Nothing gets through from one to another, in one direction.
    OneWayCut,
    /// Two groups, one of them a majority.
    Partition,
    /// One hears nobody, and nobody hears it.
    Isolation,
    /// One is cut off so long that the others' logs may begin behind what it has.
    Lag,
    /// Two groups that overlap in one member.
    Bridge,
    /// All links lead to one member.
    Star,
    /// Each has links to its two neighbours only.
    Ring,
    /// A link, or all links of a member, come and go.
    Flapping,
    /// What is sent on a link arrives later, all at once.
    Clog,
    /// Connections break at any byte.
    Reset,
    /// Links lose, double, reorder, tear and corrupt.
    Storm,
    /// A member starts anew while its earlier words are still on their way.
    Echo,
    /// Clients do not reach the leader, its peers do.
    LeaderUnseen,
    // --- disk ---
    /// A disk is slow.
    SlowDisk,
    /// A disk does nothing for up to ten seconds.
    DiskHang,
    /// The leader's disk is slower than the others'.
    SlowLeader,
    /// The followers' disks are slower than the leader's.
    SlowFollowers,
    /// A sync, or another operation, fails.
    DiskError,
    /// A disk is full at one operation.
    NoSpaceAt,
    /// A disk is full for a while.
    FullDisk,
    /// Something that was synced can no longer be read, or is not what was written, or its name
    /// is gone.
    Damage,
    /// A member comes back without its data, under its old id.
    Wipe,
    /// A member's state is not what it should be, and its disk cannot know.
    WrongState,
    // --- process ---
    /// A process, or a machine, ends at any time.
    Crash,
    /// .. at an operation of its disk.
    CrashAtOperation,
    /// .. between two messages of a turn.
    CrashAtSend,
    /// .. between the end of a sync and the report of it.
    CrashAtReport,
    /// .. while it recovers, again and again.
    CrashInRecovery,
    /// All end at once, or a majority.
    Blackout,
    /// A process stands still.
    Pause,
    /// A process is asked to stop, and started again.
    Stop,
    // --- clocks ---
    /// A clock runs fast or slow.
    Drift,
    /// A monotonic clock leaps ahead, as after a machine's sleep.
    Leap,
    /// A wall clock is set.
    WallClock,
    /// A clock stands still.
    Freeze,
    // --- strangers ---
    /// Somebody says what no member would.
    Stranger,
    // --- at the worst moment ---
    /// The leader ends right after it acknowledged a write.
    CrashAfterAcknowledgement,
    /// All lose power right after a write was acknowledged.
    BlackoutAfterAcknowledgement,
    /// A candidate loses power while its own vote is synced.
    CrashAtVote,
    /// A member loses power while it replaces a suffix.
    CrashAtTruncation,
    /// The leader stands still over an election, with requests in its sockets.
    PauseOverElection,
    /// Leaders follow each other before they can commit, as in figure 3.7 of the thesis.
    ShortReigns,
    /// Leaders that their peers do not hear collect entries, in several terms.
    Divergence,
    /// Whoever receives a snapshot, or sends it, ends, stands still or is cut off.
    BrokenTransfer,
    /// Whoever has all of a snapshot does not get to it, and the leader changes: another one may still
    /// have the log that was missing.
    OvertakenTransfer,
    /// The snapshot that a leader sends rots meanwhile.
    RottenTransfer,
    /// A log has just gone on in another segment, and rots there, or at the end of the one before.
    RottenSegment,
    /// A change of members reaches some only, and its leader ends or is heard by nobody.
    TornChange,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 48] = [
        Self::OneWayCut,
        Self::Partition,
        Self::Isolation,
        Self::Lag,
        Self::Bridge,
        Self::Star,
        Self::Ring,
        Self::Flapping,
        Self::Clog,
        Self::Reset,
        Self::Storm,
        Self::Echo,
        Self::LeaderUnseen,
        Self::SlowDisk,
        Self::DiskHang,
        Self::SlowLeader,
        Self::SlowFollowers,
        Self::DiskError,
        Self::NoSpaceAt,
        Self::FullDisk,
        Self::Damage,
        Self::Wipe,
        Self::WrongState,
        Self::Crash,
        Self::CrashAtOperation,
        Self::CrashAtSend,
        Self::CrashAtReport,
        Self::CrashInRecovery,
        Self::Blackout,
        Self::Pause,
        Self::Stop,
        Self::Drift,
        Self::Leap,
        Self::WallClock,
        Self::Freeze,
        Self::Stranger,
        Self::CrashAfterAcknowledgement,
        Self::BlackoutAfterAcknowledgement,
        Self::CrashAtVote,
        Self::CrashAtTruncation,
        Self::PauseOverElection,
        Self::ShortReigns,
        Self::Divergence,
        Self::BrokenTransfer,
        Self::OvertakenTransfer,
        Self::RottenTransfer,
        Self::RottenSegment,
        Self::TornChange,
    ];

    /// Its word in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWayCut => "one-way-cut",
            Self::Partition => "partition",
            Self::Isolation => "isolation",
            Self::Lag => "lag",
            Self::Bridge => "bridge",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Flapping => "flapping",
            Self::Clog => "clog",
            Self::Reset => "reset",
            Self::Storm => "storm",
            Self::Echo => "echo",
            Self::LeaderUnseen => "leader-unseen",
            Self::SlowDisk => "slow-disk",
            Self::DiskHang => "disk-hang",
            Self::SlowLeader => "slow-leader",
            Self::SlowFollowers => "slow-followers",
            Self::DiskError => "disk-error",
            Self::NoSpaceAt => "no-space-at",
            Self::FullDisk => "full-disk",
            Self::Damage => "damage",
            Self::Wipe => "wipe",
            Self::WrongState => "wrong-state",
            Self::Crash => "crash",
            Self::CrashAtOperation => "crash-at-operation",
            Self::CrashAtSend => "crash-at-send",
            Self::CrashAtReport => "crash-at-report",
            Self::CrashInRecovery => "crash-in-recovery",
            Self::Blackout => "blackout",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Drift => "drift",
            Self::Leap => "leap",
            Self::WallClock => "wall-clock",
            Self::Freeze => "freeze",
            Self::Stranger => "stranger",
            Self::CrashAfterAcknowledgement => "crash-after-acknowledgement",
            Self::BlackoutAfterAcknowledgement => "blackout-after-acknowledgement",
            Self::CrashAtVote => "crash-at-vote",
            Self::CrashAtTruncation => "crash-at-truncation",
            Self::PauseOverElection => "pause-over-election",
            Self::ShortReigns => "short-reigns",
            Self::Divergence => "divergence",
            Self::BrokenTransfer => "broken-transfer",
            Self::OvertakenTransfer => "overtaken-transfer",
            Self::RottenTransfer => "rotten-transfer",
            Self::RottenSegment => "rotten-segment",
            Self::TornChange => "torn-change",
        }
    }

    /// Whether it costs a member something that it should never lose.
    #[must_use]
    pub fn damages(self) -> bool {
        matches!(
            self,
            Self::Damage
                | Self::Wipe
                | Self::WrongState
                | Self::RottenTransfer
                | Self::RottenSegment
        )
    }

    /// The smallest cluster in which it can happen.
    #[must_use]
    pub fn needs(self) -> usize {
        match self {
            Self::Ring | Self::Bridge | Self::Star => 4,
            Self::Partition
            | Self::Damage
            | Self::Wipe
            | Self::WrongState
            | Self::CrashAtTruncation
            | Self::ShortReigns
            | Self::Divergence
            | Self::Lag
            | Self::BrokenTransfer
            | Self::OvertakenTransfer
            | Self::RottenTransfer
            | Self::RottenSegment => 3,
            Self::OneWayCut
            | Self::Isolation
            | Self::SlowLeader
            | Self::SlowFollowers
            | Self::CrashAtVote
            | Self::PauseOverElection => 2,
            _ => 1,
        }
    }
}
