//! What clients ask and servers answer.

mod freshness;
mod leaders;
mod members;
mod reply;
mod request;
mod status;

pub use self::freshness::{Consistency, Freshness};
pub use self::leaders::LeaderChange;
pub use self::members::{Admitted, MemberChange, MembersChanged};
pub use self::reply::{Item, Items, ItemsIter, Reply};
pub use self::request::{KeyRange, Request, ScanMode, ViewChoice, prefix_end};
pub use self::status::{Install, Member, NodeRole, Status};
