//! What clients ask and servers answer.

mod leaders;
mod members;
mod reply;
mod request;
mod status;

pub use self::leaders::LeaderChange;
pub use self::members::{Admitted, MemberChange, MembersChanged};
pub use self::reply::{Item, Items, ItemsIter, Reply};
pub use self::request::{Consistency, Request, ScanMode};
pub use self::status::{Install, Member, NodeRole, Status};
