//! Changes of the members.

use wire::client::{MemberChange, MembersChanged, Reply, Request};

use super::call::Whom;
use super::error::Error;
use super::route::Deadline;
use super::{Client, limits};

impl Client {
    /// Has the leader change who is a member, or only tell what that would do; returns when every
    /// step is committed. Asking again for what is done already changes nothing.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`: after [`Error::Open`] the change may still be done, and asking
    /// again tells. [`Error::Refused`] if it would harm the cluster, and, before it is sent, for a
    /// name or an address that is empty or longer than [`wire::limits::NAME_BYTES_MAX`] or
    /// [`wire::limits::ADDR_BYTES_MAX`].
    pub fn change_members(
        &mut self,
        change: MemberChange<'_>,
        dry_run: bool,
        deadline: Deadline,
    ) -> Result<MembersChanged, Error> {
        limits::check_change(change)?;
        let mut changed = None;
        let request = |_| Request::ChangeMembers { dry_run, change };
        let mut take = |reply: &Reply<'_>| {
            let Reply::MembersChanged(answer) = reply else {
                return false;
            };
            changed = Some(answer.clone());
            true
        };
        match dry_run {
            true => self.read(&request, Whom::Leader, deadline, &mut take)?,
            false => self.act(&request, None, deadline, &mut take)?,
        }
        Ok(changed.expect("a read that succeeds took its reply"))
    }
}
