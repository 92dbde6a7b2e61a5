//! What `raftctl help` tells besides the verbs.

/// Name and text.
pub(crate) const TOPICS: &[(&str, &str)] = &[
    ("exit-codes", include_str!("topics/exit-codes.txt")),
    ("formats", include_str!("topics/formats.txt")),
    ("consistency", include_str!("topics/consistency.txt")),
    ("env", include_str!("topics/env.txt")),
    ("recipes", include_str!("topics/recipes.txt")),
];
