//! The judges of histories are judged: by histories made wrong by hand, by another checker, and by
//! each other.

mod check;
mod cross_check;
mod hand_made;
mod long;
mod maker;
mod random;
mod sessions;
mod spoiled;
mod text;
