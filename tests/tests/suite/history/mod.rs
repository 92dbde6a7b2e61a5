//! The judges of histories are judged: by histories made wrong by hand, by another checker, and by
//! each other.

mod hand_made;
mod maker;
